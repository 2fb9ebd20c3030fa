// Shows what the program tells of its pictures, and hands it new ones.  All state is the program's: a second tab, or this
// one loaded again, shows the same.

const get = (id) => document.getElementById(id);
const pictures = new Map();
const runs = new Map();
let about = null;
let chosen = null; // a picture that was asked for; without one, the page follows what is being computed
let shown = null;
let events = null;
// A browser keeps few connections to one host: of several tabs only those that are looked at, or were last, have one.
const tabs = new BroadcastChannel("tabs");

// --- words ---------------------------------------------------------------------------------------------------------

const count = new Intl.NumberFormat("en");
const counted = (number, noun) => `${count.format(number)} ${noun}${number === 1 ? "" : "s"}`;

function duration(seconds) {
  if (seconds < 59.5) return counted(Math.max(1, Math.round(seconds)), "second");
  const minutes = Math.floor(Math.round(seconds) / 60);
  const rest = Math.round(seconds) % 60;
  return minutes < 10 && rest ? `${counted(minutes, "minute")} ${counted(rest, "second")}` : counted(minutes, "minute");
}

const megabytes = (bytes) => (bytes < 1e5 ? counted(bytes, "byte") : `${(bytes / 1e6).toFixed(1)} MB`);

const STATES = {
  encrypting: "Being encrypted",
  evaluating: "Being evaluated",
  decrypting: "Being decrypted",
  failed: "Failed",
  stopped: "Stopped",
};

function ahead(picture) {
  return [...pictures.values()].filter((other) => other.state === "waiting" && other.id < picture.id).length;
}

function stateOf(picture) {
  if (picture.state === "done") return picture.class;
  if (picture.state === "waiting") return ahead(picture) ? `Waiting, ${ahead(picture)} before it` : "Waiting";
  return STATES[picture.state];
}

// --- the program ---------------------------------------------------------------------------------------------------

async function enter() {
  if (location.hash.length > 1) {
    await fetch("session", { method: "POST", body: location.hash.slice(1) });
    history.replaceState(null, "", location.pathname);
  }
  connect();
}

function connect() {
  tabs.postMessage("one is looked at");
  const source = new EventSource("events");
  events = source;
  source.onopen = () => told("");
  source.onerror = () => {
    const refused = source.readyState === EventSource.CLOSED;
    if (refused) get("about").textContent = "";
    told(refused
      ? "Open the address that the program printed: it alone opens this page."
      : "The program does not answer. It may have been ended.");
  };
  const listen = (kind, hear) => source.addEventListener(kind, (event) => hear(JSON.parse(event.data)));
  listen("all", hearAll);
  listen("picture", (fields) => { announce(fields); pictures.set(fields.id, fields); show(); });
  listen("run", (fields) => { hearRun(fields); show(); });
  listen("gone", ({ id, kind }) => { (kind === "run" ? runs : pictures).delete(id); show(); });
}

function hearAll(all) {
  about = all.about;
  pictures.clear();
  runs.clear();
  all.pictures.forEach((fields) => pictures.set(fields.id, fields));
  all.runs.forEach(hearRun);
  introduce();
}

function hearRun(fields) {
  runs.set(fields.id, { ...fields, heard: performance.now() });
}

function told(message) {
  get("lost").textContent = message;
  get("lost").hidden = !message;
  get("files").disabled = Boolean(message) || !about;
}

async function send(files) {
  const many = files.length;
  for (const [number, file] of files.entries()) {
    get("sending").textContent = many > 1 ? `Reading ${number + 1} of ${many} …` : "Reading …";
    get("sending").hidden = false;
    const answer = await handOver(file);
    if (answer.error) refuse(file, answer);
    if (answer.full && number + 1 < many) {
      refuse(null, { error: `${counted(many - number - 1, "more picture")} not taken` });
    }
    if (answer.full || answer.lost) break;
    if (answer.id) chosen = null;
  }
  get("sending").hidden = true;
}

async function handOver(file) {
  const query = new URLSearchParams({ name: file.name, bytes: file.size });
  try {
    const body = file.size > about.largest_file ? null : file;
    const response = await fetch(`pictures?${query}`, { method: "POST", body });
    return { ...(await response.json()), full: response.status === 429 };
  } catch {
    return { error: `${file.name} could not be handed over`, hint: "is it a file, and can it be read?", lost: true };
  }
}

// --- messages ------------------------------------------------------------------------------------------------------

function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}

function message(fields, word) {
  const item = element("li");
  item.append(element("strong", `${word}: `), fields.error ?? fields.message);
  if (fields.hint) item.append(element("span", `Hint: ${fields.hint}`, "hint"));
  return item;
}

function refuse(file, fields) {
  get("refused").append(message(fields, "Error"));
  get("refused").hidden = get("dismiss").hidden = false;
}

function announce(picture) {
  const before = pictures.get(picture.id);
  if (!before || before.state === picture.state || picture.state === "waiting") return;
  const all = picture.state === "done" ? `Class: ${picture.class}` : stateOf(picture);
  get("spoken").textContent = `${picture.name}: ${all}`;
}

// --- the list of pictures ------------------------------------------------------------------------------------------

function introduce() {
  const where = about.server ? `the server ${about.server}` : "a process of its own on this machine, without the secret key";
  get("about").textContent = `Parameter set ${about.set}, keys in ${about.keys}. Evaluated by ${where}.`;
  set("leaves-title", about.server ? "What leaves this machine" : "What the server gets");
  get("files").disabled = false;
  show();
}

function entry(picture, list) {
  const found = list.querySelector(`[data-id="${picture.id}"]`);
  if (found) return found;
  const item = element("li");
  item.dataset.id = picture.id;
  const button = element("button");
  button.type = "button";
  const image = element("img");
  image.src = `pictures/${picture.id}.png`;
  image.alt = "";
  const words = element("span");
  words.append(element("span", picture.name, "name"), element("span", "", "state"));
  button.append(image, words);
  button.addEventListener("click", () => { chosen = picture.id; show(); });
  item.append(button);
  list.append(item);
  return item;
}

function showList() {
  const list = get("pictures").querySelector("ol");
  for (const item of list.querySelectorAll("li")) {
    if (!pictures.has(Number(item.dataset.id))) item.remove();
  }
  for (const picture of pictures.values()) {
    const item = entry(picture, list);
    item.className = picture.state;
    item.querySelector(".state").textContent = stateOf(picture);
    item.querySelector("button").setAttribute("aria-current", String(picture.id === shown));
  }
  get("pictures").hidden = !pictures.size;
  get("explanation").hidden = Boolean(pictures.size);
  document.body.classList.toggle("empty", !pictures.size);
}

function followed() {
  const all = [...pictures.values()];
  const ended = all.filter((picture) => ["done", "failed", "stopped"].includes(picture.state));
  return (all.find(running) ?? ended.at(-1) ?? all[0])?.id ?? null;
}

function show() {
  if (!about) return;
  if (!pictures.has(chosen)) chosen = null;
  shown = chosen ?? followed();
  showList();
  const picture = pictures.get(shown);
  get("picture").hidden = !picture;
  if (!picture) {
    document.title = "lowmem-resnet20";
    return;
  }
  const run = runs.get(picture.run);
  document.title = `${stateOf(picture)} · ${picture.name}`;
  showHead(picture);
  showCiphertext(run);
  showLayers(picture, run);
  showAnswer(picture);
}

// --- one picture ---------------------------------------------------------------------------------------------------

function set(id, text) {
  if (get(id).textContent !== text) get(id).textContent = text;
}

function setImage(id, source, alternative) {
  if (get(id).getAttribute("src") !== source) get(id).src = source;
  get(id).alt = alternative;
}

const running = (picture) => ["encrypting", "evaluating", "decrypting"].includes(picture.state);

function showButton(id, word, name, there) {
  set(id, word);
  get(id).setAttribute("aria-label", `${word} ${name}`);
  get(id).hidden = !there;
}

function showHead(picture) {
  set("name", picture.name);
  set("outcome", picture.state === "done" ? picture.class : stateOf(picture));
  get("outcome").className = picture.state;
  showButton("remove", running(picture) ? "Stop" : "Remove", picture.name, true);
  showButton("again", "Try again", picture.name, ["failed", "stopped"].includes(picture.state));
  const problems = picture.warnings.map((warning) => message(warning, "Warning"));
  if (picture.error) problems.unshift(message(picture.error, "Error"));
  get("warnings").replaceChildren(...problems);
  get("warnings").hidden = !problems.length;
  const width = about.width;
  setImage("pixels", `pictures/${picture.id}.png`, `${picture.name}, ${width} by ${width} pixels`);
  set("pixels-note", `${width} × ${width} pixels, as the network sees it.`);
}

function showCiphertext(run) {
  const there = Boolean(run?.sent);
  get("ciphertext").hidden = !there;
  get("nothing-left").hidden = there;
  if (!there) return;
  const { bytes, excerpt, offset } = run.sent;
  const together = run.pictures > 1 ? `, with ${counted(run.pictures - 1, "other picture")} in it` : "";
  const back = run.received ? ` ${megabytes(run.received)} come back.` : "";
  set("sizes", `A ciphertext of ${megabytes(bytes)}${together}.${back} Some of its numbers, as colours and as bytes:`);
  setImage("noise", `runs/${run.id}.png`, "Numbers of the ciphertext as colours: noise without any form");
  const rows = excerpt.match(/.{1,16}/g).map((row) => row.match(/../g).join(" "));
  set("hex", rows.map((row, i) => `${(offset + 8 * i).toString(16).padStart(8, "0")}  ${row}`).join("\n"));
}

const LABELS = { keys: "Keys", input: "Input", head: "Pooling, classifier" };

function stages() {
  const rows = new Map();
  about.steps.forEach(([stage, name], index) => {
    const row = stage.split(",")[0];
    if (!rows.has(row)) rows.set(row, []);
    rows.get(row).push({ index, name });
  });
  return rows;
}

// About what a step takes, beside the others: a refresh is a bootstrapping.
const weight = (name) => (name.endsWith(" refresh") ? 4 : name.endsWith(" gather") ? 3 : 1);
const total = (steps) => steps.reduce((sum, { name }) => sum + weight(name), 0);

function buildLayers() {
  const list = get("progress");
  if (list.childElementCount) return;
  const longest = Math.max(...[...stages().values()].map(total));
  for (const [row, steps] of stages()) {
    const line = element("div", "", "stage");
    const number = row.match(/^layer(\d+)$/)?.[1];
    const shape = number && about.stages[number - 1];
    const label = element("span", LABELS[row] ?? `Stage ${number}`, "label");
    if (shape) label.append(element("span", `${shape.channels} × ${shape.width} × ${shape.width}`, "shape"));
    const cells = element("span", "", "cells");
    cells.style.width = `${(100 * total(steps)) / longest}%`;
    for (const { index, name } of steps) {
      const cell = element("i", "", "cell");
      cell.style.flexGrow = weight(name);
      cell.dataset.index = index;
      cell.title = name;
      cells.append(cell);
    }
    line.append(label, cells);
    list.append(line);
  }
}

function showLayers(picture, run) {
  buildLayers();
  const progress = get("progress");
  const done = new Set(run?.done ?? []);
  for (const cell of progress.querySelectorAll(".cell")) {
    const index = Number(cell.dataset.index);
    cell.classList.toggle("done", done.has(index));
    cell.classList.toggle("now", run?.now === index && picture.state === "evaluating");
  }
  const all = about.steps.length;
  progress.setAttribute("aria-valuemax", all);
  progress.setAttribute("aria-valuenow", done.size);
  const evaluated = ["decrypting", "done"].includes(picture.state);
  const took = run?.seconds?.evaluate;
  set("now", evaluated ? `All ${all} steps${took ? ` in ${duration(took)}` : ""}.` : doing(picture, run));
  set("rest", picture.state === "evaluating" ? remaining(run) : "");
  progress.setAttribute("aria-valuetext", `${get("now").textContent} ${get("rest").textContent}`.trim());
}

function doing(picture, run) {
  if (!run) return "Not begun.";
  if (picture.state === "encrypting") return "Not begun.";
  if (picture.state !== "evaluating") return `${run.done.length} of ${about.steps.length} steps.`;
  return run.doing ? `${run.doing}.` : "Beginning.";
}

function remaining(run) {
  if (run?.rest === null || run?.rest === undefined) return "";
  const rest = run.rest - (performance.now() - run.heard) / 1000;
  return rest > 1 ? `About ${duration(rest)} left.` : "Nearly done.";
}

// --- bars ----------------------------------------------------------------------------------------------------------

function bar(value, low, high, className) {
  const made = element("i", "", `bar ${className}`);
  const place = (x) => (100 * (x - low)) / (high - low);
  made.style.left = `${place(Math.min(value, 0))}%`;
  made.style.width = `${place(Math.max(value, 0)) - place(Math.min(value, 0))}%`;
  return made;
}

function row(label, decrypted, plain, low, high, first) {
  const line = element("tr", "", first ? "first" : "");
  const name = element("th", label);
  name.scope = "row";
  const track = element("td", "", "track");
  const bars = element("span", "", "bars");
  bars.setAttribute("aria-hidden", "true");
  const zero = element("i", "", "zero");
  zero.style.left = `${(-100 * low) / (high - low)}%`;
  bars.append(bar(decrypted, low, high, "decrypted"), zero);
  track.append(bars);
  line.append(name, track, element("td", number(decrypted), "number"));
  if (plain !== undefined) {
    zero.before(bar(plain, low, high, "plain"));
    line.append(element("td", number(plain), "number"));
  }
  return line;
}

const number = (value) => value.toFixed(3).replace("-", "−");

function comparison(picture) {
  if (!picture.plain) return "It is compared with nothing, for the network’s weights are not on this machine.";
  const same = picture.plain_class === picture.class ? `${picture.class} too` : picture.plain_class;
  return `In the clear the network says ${same}, by numpy; the two differ by ${picture.difference.toFixed(3)} at most.`;
}

function showAnswer(picture) {
  const there = picture.state === "done";
  get("answered").hidden = !there;
  get("no-answer").hidden = there;
  set("no-answer", ["failed", "stopped"].includes(picture.state) ? "There is no answer." : "No answer yet.");
  if (!there) return;
  const { logits, plain = [] } = picture; // nothing is known in the clear where the weights are elsewhere
  const low = Math.min(0, ...logits, ...plain);
  const high = Math.max(0, ...logits, ...plain);
  const greatest = logits.indexOf(Math.max(...logits));
  const rows = logits.map((value, i) => row(about.classes[i], value, plain[i], low, high, i === greatest));
  get("logits").replaceChildren(...rows);
  get("in-the-clear").hidden = !plain.length;
  set("compared", `The class is ${picture.class}. ${comparison(picture)}`);
}

// --- what the user does --------------------------------------------------------------------------------------------

get("files").addEventListener("change", () => {
  const files = [...get("files").files];
  get("files").value = "";
  send(files);
});

for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  if (!get("files").disabled) send([...event.dataTransfer.files]);
});

get("dismiss").addEventListener("click", () => {
  get("refused").replaceChildren();
  get("refused").hidden = get("dismiss").hidden = true;
  get("files").focus();
});

get("remove").addEventListener("click", async () => {
  const leaves = !running(pictures.get(shown));
  const next = get("pictures").querySelector('[aria-current="true"]')?.parentElement.nextElementSibling;
  await fetch(`pictures/${shown}`, { method: "DELETE" });
  if (leaves) (next?.querySelector("button") ?? get("files")).focus();
});

get("again").addEventListener("click", async () => {
  const response = await fetch(`pictures/${shown}/again`, { method: "POST" });
  if (response.status === 429) refuse(null, await response.json());
  get("picture").focus();
});

setInterval(() => {
  const picture = pictures.get(shown);
  if (picture?.state === "evaluating") set("rest", remaining(runs.get(picture.run)));
}, 1000);

tabs.addEventListener("message", () => {
  if (!document.hidden) return;
  events?.close();
  events = null;
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  if (events) tabs.postMessage("one is looked at");
  else connect();
});

enter();
