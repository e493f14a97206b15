// Draws the page at /docs from openapi.json. Everything that comes from outside becomes text, never markup.
"use strict";

/** An element with attributes and children; strings become text. */
function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Text in which `words` between backticks are shown as code. */
function prose(text) {
  const parts = String(text).split("`");
  return parts.map((part, index) => (index % 2 ? element("code", {}, part) : part));
}

function shownExample(value) {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

/** The address of an operation with the values in its fields; empty fields are left out. */
function address(path, fields) {
  let filled = path;
  const query = [];
  for (const { parameter, input } of fields) {
    const value = encodeURIComponent(input.value);
    if (parameter.in === "path") filled = filled.replace(`{${parameter.name}}`, value);
    else if (parameter.in === "query" && input.value) query.push(`${parameter.name}=${value}`);
  }
  return filled.replace(/^\//, "") + (query.length ? `?${query.join("&")}` : "");
}

function parameterTable(path, parameters, link) {
  const fields = [];
  const update = () => {
    link.href = address(path, fields);
    link.textContent = `GET /${address(path, fields)}`;
  };
  const rows = parameters.map((parameter) => {
    const input = element("input", {
      "aria-label": parameter.name,
      placeholder: String(parameter.example),
      value: parameter.required ? String(parameter.example) : "",
    });
    if (parameter.in === "header") input.disabled = true;
    input.addEventListener("input", update);
    fields.push({ parameter, input });
    return element("tr", {},
      element("td", {}, element("code", {}, parameter.name), element("div", { class: "quiet" }, parameter.in)),
      element("td", {}, ...prose(parameter.description)),
      element("td", {}, input));
  });
  update();
  if (!rows.length) return null;
  return element("table", {}, element("tbody", {}, ...rows));
}

function responseDetails(status, response) {
  const kind = status < "400" ? "good" : "bad";
  const body = element("details", {},
    element("summary", {}, element("span", { class: `status ${kind}` }, status), " ", ...prose(response.description)));
  for (const [media, content] of Object.entries(response.content || {})) {
    for (const [name, example] of Object.entries(content.examples || {})) {
      body.append(element("p", { class: "quiet" }, `${media}: ${name}`), element("pre", {}, shownExample(example.value)));
    }
  }
  return body;
}

/** What to send, as examples; nothing for a route without a body. */
function bodyDetails(operation) {
  const examples = operation.requestBody?.content["application/json"].examples || {};
  return Object.entries(examples).map(([name, example]) => element("div", {},
    element("p", { class: "quiet" }, `Body: ${name}`), element("pre", {}, shownExample(example.value))));
}

function operationSection(path, method, operation) {
  const link = element("a", { target: "_blank", rel: "noopener" });
  const table = parameterTable(path, operation.parameters, link);
  return element("section", { class: "operation", id: operation.operationId },
    element("h3", {}, element("code", {}, `${method.toUpperCase()} ${path}`)),
    element("p", {}, element("strong", {}, operation.summary)),
    element("p", {}, ...prose(operation.description)),
    table,
    ...bodyDetails(operation),
    method === "get" ? element("p", { class: "try" }, "Try it: ", link) : null,
    ...Object.entries(operation.responses).map(([status, response]) => responseDetails(status, response)));
}

function problemSection(problems) {
  const rows = problems.map((problem) => element("tr", { id: `problem-${problem.code}` },
    element("td", {}, element("code", {}, problem.code)),
    element("td", {}, String(problem.status)),
    element("td", {}, problem.meaning, element("div", { class: "quiet" }, problem.hint))));
  return element("section", {}, element("h2", { id: "problems" }, "Problems"),
    element("table", {}, element("tbody", {}, ...rows)));
}

function draw(api) {
  document.getElementById("title").textContent = `${api.info.title} API ${api.info.version}`;
  document.getElementById("introduction").append(...prose(api.info.description));
  const main = document.getElementById("main");
  const contents = document.getElementById("contents");
  const sections = api.tags.map((tag) => {
    contents.append(element("a", { href: `#tag-${tag.name}` }, tag.name));
    const operations = Object.entries(api.paths)
      .flatMap(([path, item]) => Object.entries(item).map(([method, operation]) => [path, method, operation]))
      .filter(([, , operation]) => operation.tags.includes(tag.name));
    return element("section", {}, element("h2", { id: `tag-${tag.name}` }, tag.name),
      element("p", {}, ...prose(tag.description)),
      ...operations.map((operation) => operationSection(...operation)));
  });
  contents.append(element("a", { href: "#problems" }, "problems"));
  main.replaceChildren(...sections, problemSection(api["x-problems"]));
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

async function start() {
  try {
    const response = await fetch("openapi.json");
    if (!response.ok) throw new Error(`the gateway answered ${response.status}`);
    draw(await response.json());
  } catch (error) {
    document.getElementById("waiting").textContent = `The description cannot be read: ${error.message}`;
  }
}

start();
