"""A SunSpec inverter as registers, laid out by hand from the information model. Shares nothing with the walk.

Marker, common model 1 (66 registers), inverter model 103 (50), a model of a maker's own (64001, 4), the end.
Everything 103 has is written at its offset from the model's id, as the specification numbers them.
"""

from __future__ import annotations

NOT_INT16, NOT_UINT16, NOT_ENUM16, NOT_SF = 0x8000, 0xFFFF, 0xFFFF, 0x8000


def text(value: str, registers: int) -> list[int]:
    """High byte first, filled up with NUL."""
    data = value.encode("ascii").ljust(2 * registers, b"\0")
    return [data[at] << 8 | data[at + 1] for at in range(0, 2 * registers, 2)]


def common() -> list[int]:
    model = [1, 66]
    model += text("Sunny & Sons", 16)  # Mn, offset 2
    model += text("SI-50", 16)  # Md, 18
    model += text("", 8)  # Opt, 34: not implemented
    model += text("1.2.3", 8)  # Vr, 42
    model += text("0815-4711", 16)  # SN, 50
    model += [3, 0x8000]  # DA, 66; Pad, 67
    assert len(model) == 68
    return model


def inverter() -> list[int]:
    model = [103, 50, *[0] * 50]
    model[2:7] = [1234, 411, 412, NOT_UINT16, 0xFFFE]  # A, AphA, AphB, AphC; A_SF = -2
    model[7:10] = [4001, 4002, 4003]  # PPVphAB, BC, CA
    model[10:14] = [NOT_UINT16, 2311, 2312, 0xFFFF]  # PhVphA, B, C; V_SF = -1
    model[14:16] = [0xFF9C, 1]  # W = -100, W_SF = 1: -1000 W
    model[16:18] = [4998, 0xFFFE]  # Hz, Hz_SF = -2
    model[18:20] = [NOT_INT16, NOT_SF]  # VA: neither
    model[20:22] = [50, NOT_SF]  # VAr without a scale factor: 50
    model[22:24] = [0xFC18, 0xFFFF]  # PF = -1000, PF_SF = -1
    model[24:27] = [0x0001, 0x86A0, 0]  # WH acc32 = 100000, WH_SF = 0
    model[27:29] = [0, 0xFFFF]  # DCA = 0: a value
    model[29:31] = [6500, 0xFFFF]  # DCV
    model[31:33] = [5, 11]  # DCW with a scale factor there is not
    model[33:38] = [421, NOT_INT16, NOT_INT16, NOT_INT16, 0xFFFF]  # TmpCab .. TmpOt, Tmp_SF = -1
    model[38:40] = [4, NOT_ENUM16]  # St = MPPT, StVnd
    model[40:42] = [0, 0]  # Evt1: no event
    model[42:44] = [0xFFFF, 0xFFFF]  # Evt2
    model[44:52] = [0xFFFF] * 8  # EvtVnd1 .. 4
    assert len(model) == 52
    return model


def registers() -> list[int]:
    """From the marker to the end."""
    return [0x5375, 0x6E53, *common(), *inverter(), 64001, 4, 1, 2, 3, 4, 0xFFFF, 0]


#: Where things stand, counted from the marker.
AT_COMMON, AT_INVERTER, AT_OWN = 2, 70, 122
