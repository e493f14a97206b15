// An OPC UA server of another stack (node-opcua), to test the connector against.
//
//   NODE_PATH=FOLDER/node_modules node server.js
//
// where FOLDER holds what package.json asks for (scripts/real-parts puts it there). Orders come in on standard
// input, one JSON object a line: {"id": 7, "do": "set", ...}; each is answered on standard output, in order, by
// {"id": 7, "ok": ...} or {"id": 7, "error": "..."}. It ends when its input does. The orders are the functions of
// `orders` below. Numbers that JSON cannot carry exactly are text: 64-bit integers and times in decimal, NaN and
// Infinity by name; byte strings are Base64. Times are 100 ns ticks since 1601.
"use strict";

const readline = require("node:readline");
const { OPCUAServer, MonitoredItem, Subscription } = (() => {
  const server = require("node-opcua-server");
  return { OPCUAServer: server.OPCUAServer, MonitoredItem: server.MonitoredItem, Subscription: server.Subscription };
})();
const { DataType, Variant, VariantArrayType } = require("node-opcua-variant");
const { DataValue } = require("node-opcua-data-value");
const { StatusCodes, getStatusCodeFromCode } = require("node-opcua-status-code");
const { OPCUACertificateManager } = require("node-opcua-certificate-manager");
const { SecurityPolicy, MessageSecurityMode } = require("node-opcua-secure-channel");
const { nodesets } = require("node-opcua-nodesets");
const { resolveNodeId } = require("node-opcua-nodeid");

// What the library lets a server do at least is slower than the tests want to wait.
MonitoredItem.minimumSamplingInterval = 5;
Subscription.minimumPublishingInterval = 10;

const PLANT = "urn:plant";
const EPOCH_MS = 11644473600000n;
const NUMBERS_BY_NAME = { NaN: NaN, Infinity: Infinity, "-Infinity": -Infinity };

let server = null; // the server that runs
let space = null; // its address space
let plant = null; // the namespace urn:plant
let folder = null; // the object Plant
let nodes = {}; // its variables by name
let alarms = {}; // its alarms by name
let logins = []; // the names and passwords it was shown

// Values

function dateOf(ticks) {
  return new Date(Number(BigInt(ticks) / 10000n - EPOCH_MS));
}

function picosecondsOf(ticks) {
  return Number(BigInt(ticks) % 10000n) * 100000;
}

function highLow(text) {
  const bits = BigInt.asUintN(64, BigInt(text));
  return [Number(bits >> 32n), Number(bits & 0xffffffffn)];
}

const scalarOf = {
  Int64: highLow,
  UInt64: highLow,
  Float: (value) => NUMBERS_BY_NAME[value] ?? value,
  Double: (value) => NUMBERS_BY_NAME[value] ?? value,
  DateTime: dateOf,
  ByteString: (value) => Buffer.from(value, "base64"),
  NodeId: (value) => resolveNodeId(value),
  StatusCode: (value) => getStatusCodeFromCode(value),
};

function variantOf(type, value) {
  if (value === null || value === undefined) {
    return new Variant({ dataType: DataType.Null });
  }
  const convert = scalarOf[type] ?? ((plain) => plain);
  if (Array.isArray(value)) {
    return new Variant({ dataType: DataType[type], arrayType: VariantArrayType.Array, value: value.map(convert) });
  }
  return new Variant({ dataType: DataType[type], arrayType: VariantArrayType.Scalar, value: convert(value) });
}

function put(name, { type, value, status = 0, at }) {
  const node = nodes[name];
  node.$type = type ?? node.$type;
  const data = new DataValue(null);
  data.value = variantOf(node.$type, value);
  data.statusCode = getStatusCodeFromCode(status);
  if (at !== null) {
    const ticks = at ?? (BigInt(Date.now()) + EPOCH_MS) * 10000n;
    data.sourceTimestamp = dateOf(ticks);
    data.sourcePicoseconds = picosecondsOf(ticks);
  }
  data.serverTimestamp = new Date();
  data.serverPicoseconds = 0;
  node._internal_set_dataValue(data);
}

function addVariable({ name, type, value, access }) {
  nodes[name] = plant.addVariable({
    browseName: name,
    nodeId: `s=${name}`,
    dataType: type,
    valueRank: Array.isArray(value) ? 1 : -1,
    minimumSamplingInterval: 0,
    componentOf: folder,
    ...(access === undefined ? {} : { accessLevel: access, userAccessLevel: access }),
  });
  nodes[name].$type = type;
  // Servers do send what is not of the type they declare; this one has to be able to.
  nodes[name].verifyVariantCompatibility = () => {};
  put(name, { type, value });
}

// The server

function sessions() {
  return Object.values(server.engine._sessions);
}

function subscriptions() {
  return sessions().flatMap((session) => session.publishEngine.subscriptions);
}

async function certificates(root) {
  const manager = (name, accept) =>
    new OPCUACertificateManager({ rootFolder: `${root}/${name}`, automaticallyAcceptUnknownCertificate: accept });
  const made = { serverCertificateManager: manager("pki", true), userCertificateManager: manager("users", true) };
  await made.serverCertificateManager.initialize();
  await made.userCertificateManager.initialize();
  return made;
}

const orders = {
  // Serve. `folder` is for certificates; everything else has a use in one test or another.
  async start({ port, folder: root, certificate, key, policies = ["None"], modes = ["None"], user, variables = [],
                namespaces = [], capabilities = {}, notifications = 1000, refuse = [] }) {
    const managers = await certificates(root);
    if (refuse.includes("certificate")) {
      managers.serverCertificateManager.automaticallyAcceptUnknownCertificate = false;
    }
    Subscription.maxNotificationPerPublishHighLimit = notifications;
    server = new OPCUAServer({
      port,
      host: "127.0.0.1",
      hostname: "127.0.0.1",
      alternateHostname: ["127.0.0.1"],
      resourcePath: "/plant",
      nodeset_filename: [nodesets.standard],
      serverInfo: { applicationUri: "urn:plant:server", productUri: "urn:plant:server" },
      securityPolicies: policies.map((name) => SecurityPolicy[name]),
      securityModes: modes.map((name) => MessageSecurityMode[name]),
      allowAnonymous: user === undefined,
      userManager: {
        isValidUser(name, password) {
          logins.push([name, password]);
          return user !== undefined && name === user[0] && password === user[1];
        },
      },
      serverCapabilities: capabilities,
      ...(certificate === undefined ? {} : { certificateFile: certificate, privateKeyFile: key }),
      ...managers,
    });
    await server.initialize();
    space = server.engine.addressSpace;
    space.installAlarmsAndConditionsService();
    namespaces.forEach((uri) => space.registerNamespace(uri));
    plant = space.registerNamespace(PLANT);
    nodes = {};
    alarms = {};
    logins = [];
    folder = plant.addObject({
      browseName: "Plant",
      nodeId: "s=Plant",
      organizedBy: space.rootFolder.objects,
      eventSourceOf: space.rootFolder.objects.server,
    });
    variables.forEach(addVariable);
    await server.start();
    return { namespace: plant.index };
  },

  // Stop serving. For `notice_s` the server state says that it will.
  async stop({ notice_s = 0 }) {
    const stopped = server;
    server = null;
    if (stopped !== null) {
      await stopped.shutdown(notice_s * 1000);
    }
  },

  // Give a variable a value, a status, a source time; or several at once.
  set({ name, many, ...data }) {
    for (const [one, its] of many ?? [[name, data]]) {
      put(one, its);
    }
  },

  add(variable) {
    addVariable(variable);
  },

  remove({ name }) {
    space.deleteNode(nodes[name]);
    delete nodes[name];
  },

  // What the server holds for its clients.
  stats() {
    return {
      logins,
      sessions: sessions().length,
      subscriptions: subscriptions().map((one) => ({
        id: one.id,
        items: one.monitoredItemCount,
        unacknowledged: one._sent_notification_messages.length,
        queues: Object.values(one.monitoredItems).map((item) => item.queueSize),
        sampling: Object.values(one.monitoredItems).map((item) => item.samplingInterval),
      })),
    };
  },

  // Forget every session, as after too long a silence; the connections stay.
  drop_sessions() {
    sessions().forEach((session) => server.engine.closeSession(session.authenticationToken, true, "Timeout"));
  },

  // End every subscription, telling its client so or not.
  drop_subscriptions() {
    for (const session of sessions()) {
      session.publishEngine.subscriptions.slice().forEach((one) => session.deleteSubscription(one.id));
    }
  },

  // Cut every connection; sessions and subscriptions stay until their time is over.
  drop_connections() {
    server.endpoints.forEach((endpoint) => endpoint.abruptlyInterruptChannels());
  },

  // A plain event of the plant.
  event({ message, severity = 500, type = "BaseEventType" }) {
    folder.raiseEvent(type, {
      message: { dataType: DataType.LocalizedText, value: { locale: "en", text: message } },
      severity: { dataType: DataType.UInt16, value: severity },
    });
  },

  // An alarm that watches a variable by its limits.
  add_alarm({ name, input, limits }) {
    alarms[name] = plant.instantiateNonExclusiveLimitAlarm("NonExclusiveLimitAlarmType", {
      browseName: name,
      nodeId: `s=${name}`,
      componentOf: folder,
      conditionName: name,
      conditionSource: folder,
      inputNode: nodes[input],
      ...limits,
    });
    alarms[name].setEnabledState(true);
  },
};

async function obey(line) {
  const { id, do: what, ...rest } = JSON.parse(line);
  try {
    return { id, ok: (await orders[what](rest)) ?? null };
  } catch (error) {
    return { id, error: `${what}: ${error.stack ?? error}` };
  }
}

async function main() {
  const say = (thing) => process.stdout.write(`${JSON.stringify(thing)}\n`);
  say({ ready: process.version });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    say(await obey(line));
  }
  process.exit(0);
}

// The library tells of its doings on standard output, which here is for answers.
console.log = console.info = console.warn = console.error;
main();
