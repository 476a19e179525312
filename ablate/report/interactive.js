// The page of interactive.py. `data` is what that file says of the evidence; all of it is shown as text.
const data = JSON.parse(document.getElementById("data").textContent);
const shown = { metric: data.metrics[0], words: "", arm: "", sorted: {} };
const ROWS = 2000; // of a table; the filter finds the others
const DRAWN = 60; // arms, likewise

function make(tag, text = "", facts = {}) {
  return Object.assign(document.createElement(tag), { textContent: text }, facts);
}

const digits = (count) => (value) => (value === null ? "–" : value.toFixed(count).replace("-", "−"));
const plain = (value) => String(value);

// A column: its title, its value of a row, and how that is written.
function armColumns() {
  return [
    ["Arm", (arm) => arm.arm, plain],
    ["Seeds", (arm) => arm.seeds, plain],
    ...data.metrics.map((metric) => [metric, (arm) => arm.means[metric], digits(1)]),
    [`Δ ${data.metrics[0]}`, (arm) => arm.difference, digits(1)],
    ["Verdict", (arm) => arm.verdict, plain],
    ["Params, M", (arm) => arm.parameters, digits(2)],
    ["GMACs", (arm) => arm.gmacs, digits(3)],
  ];
}

function trialColumns() {
  return [
    ["Arm", (trial) => trial.arm, plain],
    ["Seed", (trial) => trial.seed, plain],
    ["Trial", (trial) => trial.trial, plain],
    ["Status", (trial) => trial.status, plain],
    ...data.metrics.map((metric) => [metric, (trial) => trial.scores[metric], digits(2)]),
    ["Minutes", (trial) => trial.minutes, digits(1)],
  ];
}

// Rows that have every word of the filter somewhere, in the order that was asked for.
function chosen(name, rows, columns) {
  const words = shown.words.toLowerCase().split(/\s+/).filter(Boolean);
  const has = (row) => {
    const text = columns.map(([, value, write]) => write(value(row))).join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  };
  const found = rows.filter((row) => has(row) && (name === "arms" || !shown.arm || row.arm === shown.arm));
  const order = shown.sorted[name];
  return order ? found.sort((a, b) => order.sign * compared(columns[order.at][1](a), columns[order.at][1](b), order.sign)) : found;
}

// What is not there comes last in either order.
function compared(a, b, sign) {
  if (a === null || b === null) return a === b ? 0 : sign * (a === null ? 1 : -1);
  return typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
}

function table(name, rows, columns, picked) {
  const head = make("tr"), body = make("tbody"), order = shown.sorted[name];
  columns.forEach(([title], at) => {
    const cell = make("th", "", { scope: "col", className: "left" });
    if (order?.at === at) cell.setAttribute("aria-sort", order.sign > 0 ? "ascending" : "descending");
    const sort = () => {
      shown.sorted[name] = { at, sign: order?.at === at ? -order.sign : 1 };
      show();
    };
    cell.append(make("button", title, { type: "button", onclick: sort }));
    head.append(cell);
  });
  const found = chosen(name, [...rows], columns);
  for (const row of found.slice(0, ROWS)) {
    const line = make("tr", "", { onclick: () => picked(row), className: name === "arms" && row.arm === shown.arm ? "chosen" : "" });
    line.append(...columns.map(([title, value, write]) => make("td", write(value(row)), { className: title === "Arm" ? "text" : "left" })));
    body.append(line);
  }
  const whole = make("table"), thead = make("thead"), box = make("div", "", { className: "scroll", id: name });
  thead.append(head);
  whole.append(thead, body);
  box.append(whole);
  const count = `${Math.min(found.length, ROWS)} of ${rows.length} shown.`;
  return [box, make("p", count, { className: "note" })];
}

// One drawing, in the page's own ink; `ast` has Vega read expressions instead of running them.
function draw(place, spec) {
  const ink = getComputedStyle(document.body).color;
  const axis = { labelColor: ink, titleColor: ink, tickColor: ink, domainColor: ink, gridOpacity: 0.25, labelLimit: 220, labelFontSize: 12, titleFontSize: 12 };
  const config = { background: null, axis, view: { stroke: null } };
  return window.vegaEmbed(place, { width: "container", config, ...spec }, { actions: false, ast: true, renderer: "svg" });
}

function scores(place) {
  const found = chosen("trials", [...data.trials], trialColumns());
  const wanted = new Set(found.map((trial) => trial.arm));
  const arms = data.arms.map((arm) => arm.arm).filter((arm) => wanted.has(arm)).slice(0, DRAWN);
  const values = found
    .filter((trial) => arms.includes(trial.arm))
    .map((trial) => ({ arm: trial.arm, seed: trial.seed, trial: trial.trial, score: trial.scores[shown.metric] }))
    .filter((point) => point.score !== null);
  const spec = {
    data: { values },
    height: { step: 30 },
    mark: { type: "point", filled: true, size: 80, cursor: "pointer" },
    encoding: {
      x: { field: "score", type: "quantitative", scale: { zero: false }, title: `${shown.metric} × 100` },
      y: { field: "arm", type: "nominal", sort: arms, title: null },
      color: { field: "arm", type: "nominal", sort: arms, legend: null },
      tooltip: ["trial", "seed", "arm", { field: "score", format: ".3f" }].map((one) => (one.field ? one : { field: one })),
    },
  };
  return draw(place, spec).then(({ view }) =>
    view.addEventListener("click", (_, item) => {
      const trial = data.trials.find((one) => one.trial === item?.datum?.trial && one.seed === item.datum.seed);
      if (trial) open(trial);
    }),
  );
}

function curve(place, points, title) {
  const values = points.map(([epoch, value]) => ({ epoch, value }));
  return draw(place, {
    data: { values },
    height: 180,
    mark: { type: "line", point: true },
    encoding: {
      x: { field: "epoch", type: "quantitative", axis: { tickMinStep: 1 } },
      y: { field: "value", type: "quantitative", scale: { zero: false }, title },
      tooltip: [{ field: "epoch" }, { field: "value", format: ".4f", title }],
    },
  });
}

function open(trial) {
  const place = document.getElementById("trial");
  place.replaceChildren(make("h2", `Trial ${trial.trial}`));
  const facts = [trial.arm, `seed ${trial.seed}`, trial.status, trial.reason, trial.finished, trial.imported && `imported ${trial.imported}`];
  place.append(make("p", facts.filter(Boolean).join(", ")));
  if (trial.document) {
    const way = make("p");
    way.append(make("a", "its document", { href: trial.document }));
    place.append(way);
  }
  for (const [title, points] of [["training loss", trial.loss], ...data.metrics.map((m) => [`${m} × 100`, trial.curves[m]])]) {
    if (!points.length || (title !== "training loss" && title !== `${shown.metric} × 100`)) continue;
    const drawn = make("div", "", { className: "drawn" });
    place.append(drawn);
    curve(drawn, points, title);
  }
  place.append(make("p", "Its recipe. Bold is what differs from the control's.", { className: "note" }), recipe(trial));
  shown.trial = trial;
  place.scrollIntoView({ block: "start" });
}

function recipe(trial) {
  const list = make("div", "", { className: "recipe" });
  for (const choice of data.arms.find((arm) => arm.arm === trial.arm).recipe) {
    const line = make("div");
    line.append(make(choice.own ? "strong" : "span", `${choice.path}: ${choice.value}`));
    list.append(line);
  }
  return list;
}

function show() {
  document.getElementById("lists").replaceChildren(
    make("h2", "Arms"),
    ...table("arms", data.arms, armColumns(), (arm) => {
      shown.arm = shown.arm === arm.arm ? "" : arm.arm;
      show();
    }),
    make("h2", "Trials"),
    ...table("trials", data.trials, trialColumns(), open),
  );
  return scores(document.getElementById("scores"));
}

function choices() {
  const metric = make("select", "", { id: "metric" }), words = make("input", "", { id: "filter", type: "search", placeholder: "any words of a row" });
  metric.append(...data.metrics.map((name) => make("option", name)));
  metric.onchange = () => {
    shown.metric = metric.value;
    show();
    if (shown.trial) open(shown.trial);
  };
  words.oninput = () => {
    shown.words = words.value;
    show();
  };
  const labels = [["Metric ", metric], ["Filter ", words]].map(([text, field]) => {
    const label = make("label", text);
    label.append(field);
    return label;
  });
  const place = make("div", "", { className: "choices" });
  place.append(...labels);
  return place;
}

const main = make("main");
main.append(
  make("h1", data.title),
  make("p", data.question, { className: "question" }),
  make("p", "A title sorts, an arm shows its trials alone, a trial or a point opens its curve and recipe."),
  choices(),
  make("div", "", { id: "scores", className: "drawn" }),
  make("div", "", { id: "lists" }),
  make("div", "", { id: "trial" }),
);
document.body.append(main);
await show();
document.body.dataset.ready = "yes";
