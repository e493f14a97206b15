// Sparkplug payloads read and written by something that is not ours: Eclipse Tahu's JavaScript library, and
// protobufjs with Tahu's own schema. One order per line on standard input (JSON), one answer per line.
//
//   {"do": "read", "payload": BASE64}    what is in it, three ways:
//       "fields"   the fields as they are on the wire, by Tahu's schema
//       "values"   what each metric says, all types, read here from those fields by the text of the standard
//       "library"  what Tahu's library makes of it, or {"error": ...} where it makes nothing of it
//   {"do": "make", "values": {...}}      the bytes (Base64) of what "values" would say of them
//   {"do": "write", "payload": {...}}    the bytes Tahu's library makes of it (Base64)
//   {"do": "pack", "fields": {...}}      the bytes of these very fields (Base64)
//
// Numbers travel as text and bytes as hexadecimal digits: JSON holds neither 64 bits, nor NaN, nor octets.
//
// Where Tahu's library (1.0.3) is known to differ from the standard, so that nobody takes it for a fault of ours:
// it reads and writes UInt32 in long_value alone; knows no array type; cannot read a null or most integers in
// DataSets and template parameters; writes negative Int64 and times only when handed a Long.
"use strict";

const library = require("sparkplug-payload").get("spBv1.0");
const { Payload } = require("sparkplug-payload/lib/sparkplugPayloadProto").org.eclipse.tahu.protobuf;
const Long = require("long");

const TYPES = ["Unknown", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float",
  "Double", "Boolean", "String", "DateTime", "Text", "UUID", "DataSet", "Bytes", "File", "Template",
  "PropertySet", "PropertySetList", "Int8Array", "Int16Array", "Int32Array", "Int64Array", "UInt8Array",
  "UInt16Array", "UInt32Array", "UInt64Array", "FloatArray", "DoubleArray", "BooleanArray", "StringArray",
  "DateTimeArray"];

const hex = (bytes) => Buffer.from(bytes).toString("hex");
const number = (value) => (Object.is(value, -0) ? "-0" : String(value));

// A scalar of any place, from the field its type is sent in.
const SCALAR = {
  Int8: (f) => number(f.intValue << 24 >> 24),
  Int16: (f) => number(f.intValue << 16 >> 16),
  Int32: (f) => number(f.intValue | 0),
  Int64: (f) => f.longValue.toSigned().toString(),
  UInt8: (f) => number(f.intValue),
  UInt16: (f) => number(f.intValue),
  UInt32: (f) => number(f.intValue),
  UInt64: (f) => f.longValue.toUnsigned().toString(),
  Float: (f) => number(f.floatValue),
  Double: (f) => number(f.doubleValue),
  Boolean: (f) => f.booleanValue,
  String: (f) => f.stringValue,
  DateTime: (f) => f.longValue.toSigned().toString(),
  Text: (f) => f.stringValue,
  UUID: (f) => f.stringValue,
};

const FIELD = { Int64: "longValue", UInt64: "longValue", DateTime: "longValue", Float: "floatValue",
  Double: "doubleValue", Boolean: "booleanValue", String: "stringValue", Text: "stringValue", UUID: "stringValue" };

function scalar(type, fields) {
  const field = FIELD[type] || "intValue";
  if (fields.value === undefined) return null;
  if (fields.value !== field) throw new Error(`${type} came in ${fields.value}`);
  return SCALAR[type](fields);
}

// Arrays, little-endian whatever this machine is.
const ELEMENT = {
  Int8Array: [1, (v, at) => number(v.getInt8(at))],
  Int16Array: [2, (v, at) => number(v.getInt16(at, true))],
  Int32Array: [4, (v, at) => number(v.getInt32(at, true))],
  Int64Array: [8, (v, at) => v.getBigInt64(at, true).toString()],
  UInt8Array: [1, (v, at) => number(v.getUint8(at))],
  UInt16Array: [2, (v, at) => number(v.getUint16(at, true))],
  UInt32Array: [4, (v, at) => number(v.getUint32(at, true))],
  UInt64Array: [8, (v, at) => v.getBigUint64(at, true).toString()],
  FloatArray: [4, (v, at) => number(v.getFloat32(at, true))],
  DoubleArray: [8, (v, at) => number(v.getFloat64(at, true))],
  DateTimeArray: [8, (v, at) => v.getBigInt64(at, true).toString()],
};

function array(type, bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found = [];
  if (type === "StringArray") {
    let start = 0;
    bytes.forEach((octet, at) => {
      if (octet !== 0) return;
      found.push(Buffer.from(bytes.subarray(start, at)).toString("utf8"));
      start = at + 1;
    });
    if (start !== bytes.length) throw new Error("a text without an end");
    return found;
  }
  if (type === "BooleanArray") {
    const count = view.getUint32(0, true);
    if (bytes.length !== 4 + Math.ceil(count / 8)) throw new Error("not the bytes of so many booleans");
    for (let at = 0; at < count; at++) found.push((view.getUint8(4 + (at >> 3)) & (128 >> (at & 7))) !== 0);
    return found;
  }
  const [width, read] = ELEMENT[type];
  if (bytes.length % width) throw new Error("no whole number of elements");
  for (let at = 0; at < bytes.length; at += width) found.push(read(view, at));
  return found;
}

function dataset(fields) {
  const types = fields.types.map((one) => TYPES[one]);
  return {
    count: number(fields.numOfColumns), columns: fields.columns, types,
    rows: fields.rows.map((row) => row.elements.map((one, at) => scalar(types[at], one))),
  };
}

function template(fields) {
  return {
    isDefinition: "isDefinition" in own(fields) ? fields.isDefinition : null,
    ref: "templateRef" in own(fields) ? fields.templateRef : null,
    version: "version" in own(fields) ? fields.version : null,
    metrics: fields.metrics.map(metric),
    parameters: fields.parameters.map((one) => {
      const type = TYPES[one.type];
      return { name: one.name, type, value: scalar(type, one) };
    }),
  };
}

function properties(fields) {
  if (fields.keys.length !== fields.values.length) throw new Error("keys and values do not match");
  return fields.keys.map((key, at) => {
    const one = fields.values[at];
    const type = TYPES[one.type];
    if (one.isNull && one.value !== undefined) throw new Error("null with a value");
    let value = null;
    if (type === "PropertySet" && !one.isNull) value = properties(one.propertysetValue);
    else if (type === "PropertySetList" && !one.isNull) value = one.propertysetsValue.propertyset.map(properties);
    else if (!one.isNull) value = scalar(type, one);
    return { key, type, value };
  });
}

// The fields that were really sent: what protobufjs gives for absent ones lies in the prototype.
const own = (message) => ({ ...message });

function metric(fields) {
  const sent = own(fields);
  const type = "datatype" in sent ? TYPES[fields.datatype] : null;
  const told = {
    name: "name" in sent ? fields.name : null,
    alias: "alias" in sent ? fields.alias.toString() : null,
    timestamp: "timestamp" in sent ? fields.timestamp.toSigned().toString() : null,
    type, historical: fields.isHistorical, transient: fields.isTransient,
    properties: "properties" in sent && fields.properties ? properties(fields.properties) : [],
    metadata: "metadata" in sent && fields.metadata ? plain(own(fields.metadata)) : null,
    value: null,
  };
  if (fields.isNull) {
    if (fields.value !== undefined) throw new Error("null with a value");
    return told;
  }
  if (type === null) told.value = { [fields.value]: plain(fields[fields.value]) };
  else if (type === "DataSet") told.value = dataset(fields.datasetValue);
  else if (type === "Template") told.value = template(fields.templateValue);
  else if (type === "Bytes" || type === "File") told.value = hex(fields.bytesValue);
  else if (type.endsWith("Array")) told.value = array(type, fields.bytesValue);
  else told.value = scalar(type, fields);
  return told;
}

function values(message) {
  const sent = own(message);
  return {
    timestamp: "timestamp" in sent ? message.timestamp.toSigned().toString() : null,
    seq: "seq" in sent ? message.seq.toString() : null,
    metrics: message.metrics.map(metric),
  };
}

// The other way: fields from what a metric says. Field names are those of protobufjs.
function scalarFields(type, value) {
  if (value === null) return {};
  const field = FIELD[type] || "intValue";
  if (field === "longValue") return { longValue: Long.fromString(value, type === "UInt64") };
  if (field === "intValue") return { intValue: Number(value) >>> 0 };
  return { [field]: field === "floatValue" || field === "doubleValue" ? Number(value) : value };
}

const WRITE = {
  Int8Array: [1, (v, at, x) => v.setInt8(at, Number(x))],
  Int16Array: [2, (v, at, x) => v.setInt16(at, Number(x), true)],
  Int32Array: [4, (v, at, x) => v.setInt32(at, Number(x), true)],
  Int64Array: [8, (v, at, x) => v.setBigInt64(at, BigInt(x), true)],
  UInt8Array: [1, (v, at, x) => v.setUint8(at, Number(x))],
  UInt16Array: [2, (v, at, x) => v.setUint16(at, Number(x), true)],
  UInt32Array: [4, (v, at, x) => v.setUint32(at, Number(x), true)],
  UInt64Array: [8, (v, at, x) => v.setBigUint64(at, BigInt(x), true)],
  FloatArray: [4, (v, at, x) => v.setFloat32(at, Number(x), true)],
  DoubleArray: [8, (v, at, x) => v.setFloat64(at, Number(x), true)],
  DateTimeArray: [8, (v, at, x) => v.setBigInt64(at, BigInt(x), true)],
};

function arrayBytes(type, values) {
  if (type === "StringArray") return Buffer.from(values.map((text) => `${text}\0`).join(""), "utf8");
  if (type === "BooleanArray") {
    const bytes = Buffer.alloc(4 + Math.ceil(values.length / 8));
    bytes.writeUInt32LE(values.length, 0);
    values.forEach((value, at) => { if (value) bytes[4 + (at >> 3)] |= 128 >> (at & 7); });
    return bytes;
  }
  const [width, write] = WRITE[type];
  const bytes = Buffer.alloc(width * values.length);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  values.forEach((value, at) => write(view, at * width, value));
  return bytes;
}

function propertyFields(listed) {
  return {
    keys: listed.map(({ key }) => key),
    values: listed.map(({ type, value }) => {
      const fields = { type: TYPES.indexOf(type) };
      if (value === null) return { ...fields, isNull: true };
      if (type === "PropertySet") return { ...fields, propertysetValue: propertyFields(value) };
      if (type === "PropertySetList") {
        return { ...fields, propertysetsValue: { propertyset: value.map(propertyFields) } };
      }
      return { ...fields, ...scalarFields(type, value) };
    }),
  };
}

// What protobufjs takes for bytes: of an empty Buffer it makes no value at all.
const base64 = (bytes) => bytes.toString("base64");

function metricFields(told) {
  const fields = { isHistorical: told.historical, isTransient: told.transient };
  if (told.name !== null) fields.name = told.name;
  if (told.alias !== null) fields.alias = Long.fromString(told.alias, true);
  if (told.timestamp !== null) fields.timestamp = Long.fromString(told.timestamp);
  if (told.properties.length) fields.properties = propertyFields(told.properties);
  if (told.metadata !== null) fields.metadata = told.metadata;
  const { type, value } = told;
  fields.datatype = TYPES.indexOf(type);
  if (value === null) return { ...fields, isNull: true };
  if (type === "Bytes" || type === "File") return { ...fields, bytesValue: base64(Buffer.from(value, "hex")) };
  if (type.endsWith("Array")) return { ...fields, bytesValue: base64(arrayBytes(type, value)) };
  if (type === "DataSet") {
    const types = value.types.map((one) => TYPES.indexOf(one));
    const rows = value.rows.map((row) => (
      { elements: row.map((one, at) => scalarFields(value.types[at], one)) }));
    const datasetValue = { numOfColumns: Number(value.count), columns: value.columns, types, rows };
    return { ...fields, datasetValue };
  }
  if (type === "Template") {
    const templateValue = {
      isDefinition: value.isDefinition, metrics: value.metrics.map(metricFields),
      parameters: value.parameters.map((one) => (
        { name: one.name, type: TYPES.indexOf(one.type), ...scalarFields(one.type, one.value) })),
    };
    if (value.ref !== null) templateValue.templateRef = value.ref;
    if (value.version !== null) templateValue.version = value.version;
    return { ...fields, templateValue };
  }
  return { ...fields, ...scalarFields(type, value) };
}

function payloadFields(told) {
  const fields = { metrics: told.metrics.map(metricFields) };
  if (told.timestamp !== null) fields.timestamp = Long.fromString(told.timestamp);
  if (told.seq !== null) fields.seq = Number(told.seq);
  return fields;
}

const packed = (fields) => Buffer.from(Payload.encode(Payload.fromObject(fields)).finish()).toString("base64");

// Anything as JSON can say it.
function plain(value) {
  if (value === null || value === undefined) return null;
  if (Long.isLong(value)) return value.toString();
  if (value instanceof Uint8Array) return hex(value);
  if (typeof value === "number") return number(value);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, plain(one)]));
  }
  return value;
}

// What was made plain, as the library takes it: {"long": TEXT}, {"hex": TEXT} and {"number": TEXT} are values.
function rich(value) {
  if (Array.isArray(value)) return value.map(rich);
  if (value !== null && typeof value === "object") {
    if ("long" in value) return Long.fromString(value.long, !value.long.startsWith("-"));
    if ("hex" in value) return Buffer.from(value.hex, "hex");
    if ("number" in value) return Number(value.number);
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, rich(one)]));
  }
  return value;
}

function attempt(work) {
  try {
    return work();
  } catch (error) {
    return { error: String(error.message || error) };
  }
}

const ORDERS = {
  read: ({ payload }) => {
    const bytes = Buffer.from(payload, "base64");
    const message = Payload.decode(bytes);
    return {
      fields: plain(Payload.toObject(message)),
      values: attempt(() => values(message)),
      library: attempt(() => plain(library.decodePayload(bytes))),
    };
  },
  write: ({ payload }) => Buffer.from(library.encodePayload(rich(payload))).toString("base64"),
  make: (order) => packed(payloadFields(order.values)),
  pack: ({ fields }) => packed(rich(fields)),
};

require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const order = JSON.parse(line);
  let answer;
  try {
    answer = { ok: ORDERS[order.do](order) };
  } catch (error) {
    answer = { error: String(error.stack || error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
});
