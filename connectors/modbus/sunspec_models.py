"""The SunSpec models whose points are known here, as tables. Values only.

After the SunSpec Device Information Model Specification and the models published with it. A point is
`name type`, then its unit and, after a star, the point its scale factor is in. Points follow each other
without gaps from the third register of a model on, behind its id and its length; so places follow from the
order and the sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Registers of each type; a text says how many itself.
_SIZES = {
    "int16": 1,
    "uint16": 1,
    "enum16": 1,
    "sunssf": 1,
    "pad": 1,
    "count": 1,
    "acc32": 2,
    "bitfield32": 2,
    "float32": 2,
}
_INVERTER_STATES = "1 off, 2 sleeping, 3 starting, 4 MPPT, 5 throttled, 6 shutting down, 7 fault, 8 standby"

#: What else is worth knowing of a point.
DESCRIPTIONS = {
    "Mn": "manufacturer",
    "Md": "model",
    "Opt": "options",
    "Vr": "version",
    "SN": "serial number",
    "DA": "unit id",
    "A": "current, all phases",
    "W": "power",
    "Hz": "frequency",
    "VA": "apparent power",
    "VAr": "reactive power",
    "VAR": "reactive power",
    "PF": "power factor",
    "WH": "energy, all its life",
    "DCA": "direct current",
    "DCV": "direct voltage",
    "DCW": "direct current power",
    "TmpCab": "cabinet temperature",
    "TmpSnk": "heat sink temperature",
    "St": _INVERTER_STATES,
    "StVnd": "state in the maker's own codes",
    "Evt1": "event bits",
    "TotWhExp": "energy exported",
    "TotWhImp": "energy imported",
    "PhV": "voltage to neutral, mean",
    "PPV": "voltage between phases, mean",
}

_COMMON = "Mn string(32); Md string(32); Opt string(16); Vr string(16); SN string(32); DA uint16; Pad pad"

_EVENTS = "Evt1 bitfield32; Evt2 bitfield32; " + "; ".join(f"EvtVnd{n} bitfield32" for n in (1, 2, 3, 4))

_INVERTER = f"""
A uint16 A *A_SF; AphA uint16 A *A_SF; AphB uint16 A *A_SF; AphC uint16 A *A_SF; A_SF sunssf;
PPVphAB uint16 V *V_SF; PPVphBC uint16 V *V_SF; PPVphCA uint16 V *V_SF;
PhVphA uint16 V *V_SF; PhVphB uint16 V *V_SF; PhVphC uint16 V *V_SF; V_SF sunssf;
W int16 W *W_SF; W_SF sunssf; Hz uint16 Hz *Hz_SF; Hz_SF sunssf; VA int16 VA *VA_SF; VA_SF sunssf;
VAr int16 var *VAr_SF; VAr_SF sunssf; PF int16 % *PF_SF; PF_SF sunssf; WH acc32 Wh *WH_SF; WH_SF sunssf;
DCA uint16 A *DCA_SF; DCA_SF sunssf; DCV uint16 V *DCV_SF; DCV_SF sunssf; DCW int16 W *DCW_SF; DCW_SF sunssf;
TmpCab int16 °C *Tmp_SF; TmpSnk int16 °C *Tmp_SF; TmpTrns int16 °C *Tmp_SF; TmpOt int16 °C *Tmp_SF;
Tmp_SF sunssf; St enum16; StVnd enum16; {_EVENTS}
"""

_INVERTER_FLOAT = f"""
A float32 A; AphA float32 A; AphB float32 A; AphC float32 A; PPVphAB float32 V; PPVphBC float32 V;
PPVphCA float32 V; PhVphA float32 V; PhVphB float32 V; PhVphC float32 V; W float32 W; Hz float32 Hz;
VA float32 VA; VAr float32 var; PF float32 %; WH float32 Wh; DCA float32 A; DCV float32 V; DCW float32 W;
TmpCab float32 °C; TmpSnk float32 °C; TmpTrns float32 °C; TmpOt float32 °C; St enum16; StVnd enum16; {_EVENTS}
"""

_NAMEPLATE = """
DERTyp enum16; WRtg uint16 W *WRtg_SF; WRtg_SF sunssf; VARtg uint16 VA *VARtg_SF; VARtg_SF sunssf;
VArRtgQ1 int16 var *VArRtg_SF; VArRtgQ2 int16 var *VArRtg_SF; VArRtgQ3 int16 var *VArRtg_SF;
VArRtgQ4 int16 var *VArRtg_SF; VArRtg_SF sunssf; ARtg uint16 A *ARtg_SF; ARtg_SF sunssf;
PFRtgQ1 int16 *PFRtg_SF; PFRtgQ2 int16 *PFRtg_SF; PFRtgQ3 int16 *PFRtg_SF; PFRtgQ4 int16 *PFRtg_SF;
PFRtg_SF sunssf; WHRtg uint16 Wh *WHRtg_SF; WHRtg_SF sunssf; AhrRtg uint16 Ah *AhrRtg_SF; AhrRtg_SF sunssf;
MaxChaRte uint16 W *MaxChaRte_SF; MaxChaRte_SF sunssf; MaxDisChaRte uint16 W *MaxDisChaRte_SF;
MaxDisChaRte_SF sunssf; Pad pad
"""


def _phases(name: str, form: str, suffixes: tuple[str, ...] = ("phA", "phB", "phC")) -> str:
    """A total and its three phases."""
    return "; ".join(f"{name}{suffix} {form}" for suffix in ("", *suffixes))


_ENERGY = ("PhA", "PhB", "PhC")
_METER = "; ".join(
    (
        _phases("A", "int16 A *A_SF"),
        "A_SF sunssf",
        _phases("PhV", "int16 V *V_SF"),
        _phases("PPV", "int16 V *V_SF", ("phAB", "phBC", "phCA")),
        "V_SF sunssf; Hz int16 Hz *Hz_SF; Hz_SF sunssf",
        _phases("W", "int16 W *W_SF"),
        "W_SF sunssf",
        _phases("VA", "int16 VA *VA_SF"),
        "VA_SF sunssf",
        _phases("VAR", "int16 var *VAR_SF"),
        "VAR_SF sunssf",
        _phases("PF", "int16 % *PF_SF"),
        "PF_SF sunssf",
        _phases("TotWhExp", "acc32 Wh *TotWh_SF", _ENERGY),
        _phases("TotWhImp", "acc32 Wh *TotWh_SF", _ENERGY),
        "TotWh_SF sunssf",
        _phases("TotVAhExp", "acc32 VAh *TotVAh_SF", _ENERGY),
        _phases("TotVAhImp", "acc32 VAh *TotVAh_SF", _ENERGY),
        "TotVAh_SF sunssf",
        *(
            _phases(name, "acc32 varh *TotVArh_SF", _ENERGY)
            for name in ("TotVArhImpQ1", "TotVArhImpQ2", "TotVArhExpQ3", "TotVArhExpQ4")
        ),
        "TotVArh_SF sunssf; Evt bitfield32",
    )
)


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a model. `offset` counts registers from the model's id."""

    name: str
    type: str
    offset: int
    unit: str = ""
    scale: str = ""
    """Name of the point that holds the scale factor; empty when there is none."""

    @property
    def registers(self) -> int:
        """How many it takes."""
        return _size(self.type)


@dataclass(frozen=True, slots=True)
class Model:
    """A model and its points, as far as they are known here; `length` is without id and length."""

    title: str
    points: tuple[Point, ...] = ()

    @property
    def length(self) -> int:
        """Registers its points take."""
        return self.points[-1].offset + self.points[-1].registers - 2 if self.points else 0


def _size(type_: str) -> int:
    return int(type_[7:-1]) // 2 if type_.startswith("string(") else _SIZES[type_]


def _points(text: str) -> tuple[Point, ...]:
    points = []
    offset = 2
    for part in text.replace("\n", " ").split(";"):
        name, type_, *rest = part.split()
        scale = next((word[1:] for word in rest if word.startswith("*")), "")
        unit = next((word for word in rest if not word.startswith("*")), "")
        points.append(Point(name, type_, offset, unit, scale))
        offset += _size(type_)
    return tuple(points)


_OF_INVERTERS, _OF_FLOATS = _points(_INVERTER), _points(_INVERTER_FLOAT)
#: Voltages between phases are named otherwise where there is one phase only.
_OF_ONE_PHASE, _OF_METERS = _points(_METER), _points(_METER.replace("PPVph", "PhVph"))

#: What is known, by model id. Those without points are known by name only.
MODELS = {
    1: Model("common", _points(_COMMON)),
    101: Model("inverter, single phase", _OF_INVERTERS),
    102: Model("inverter, split phase", _OF_INVERTERS),
    103: Model("inverter, three phase", _OF_INVERTERS),
    111: Model("inverter, single phase, floating point", _OF_FLOATS),
    112: Model("inverter, split phase, floating point", _OF_FLOATS),
    113: Model("inverter, three phase, floating point", _OF_FLOATS),
    120: Model("nameplate", _points(_NAMEPLATE)),
    121: Model("basic settings"),
    122: Model("measurements and status"),
    123: Model("immediate controls"),
    124: Model("storage"),
    160: Model("several MPP trackers"),
    201: Model("meter, single phase", _OF_ONE_PHASE),
    202: Model("meter, split phase", _OF_METERS),
    203: Model("meter, three phase, star", _OF_METERS),
    204: Model("meter, three phase, delta", _OF_METERS),
}
