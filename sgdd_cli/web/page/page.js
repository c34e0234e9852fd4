// All text from outside goes through textContent: nothing that is typed or written becomes markup.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  // A step of `mini` takes a few milliseconds: it is shown for longer, or nobody would see it.
  const STEP_MS = matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 90;
  let token = sessionStorage.getItem("sgdd-token") || "";
  let model = null;
  let running = null; // the AbortController of what is being written
  let frames = []; // canvases of the first row, as they were shown

  // What would turn the direction of a line around, or is no character to be seen, is shown as an escape.
  const shown = (text) =>
    String(text).replace(
      /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g,
      (found) => "\\u" + found.charCodeAt(0).toString(16).padStart(4, "0"),
    );
  const make = (name, className, text) => {
    const node = document.createElement(name);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = shown(text);
    return node;
  };
  const say = (text, bad = false) => {
    $("status").textContent = shown(text);
    $("status").classList.toggle("bad", bad);
  };
  const number = (value, digits = 2) => value.toFixed(digits);

  // --- the server -------------------------------------------------------------------------------------
  const headers = (more = {}) => (token ? { ...more, Authorization: "Bearer " + token } : more);
  class Refused extends Error {}
  const refused = async (response) => {
    if (response.status === 401) {
      $("token-form").hidden = false;
      $("token").focus();
    }
    let found = {};
    try { found = await response.json(); } catch { /* no JSON: the server is being stopped */ }
    return new Refused([found.error || "The server answered " + response.status + ".", found.hint].filter(Boolean).join(" "));
  };
  // Server-sent events over POST, which EventSource cannot do.
  async function* eventsOf(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text = (text + value).replaceAll("\r\n", "\n");
      const parts = text.split("\n\n");
      text = parts.pop();
      for (const part of parts) {
        const lines = part.split("\n");
        const kind = lines.find((line) => line.startsWith("event:"));
        const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
        if (kind) yield [kind.slice(6).trim(), JSON.parse(data.join("\n"))];
      }
    }
  }

  // --- the canvas -------------------------------------------------------------------------------------
  const tone = (p) => (p >= model.sure ? "sure" : p >= model.fair ? "fair" : "unsure");
  // Pieces begin a word with U+2581 (SentencePiece) or go on with one after "##" (WordPiece).
  const joins = (piece) => piece.startsWith("##") || /^[.,;:!?'’”)\]…]/u.test(piece)
    || (model && model.spaces && !piece.startsWith("▁"));
  const showCanvas = (tokens, before = []) => {
    const canvas = $("canvas");
    canvas.replaceChildren();
    if (tokens.some(([piece]) => piece.startsWith("▁"))) model.spaces = true;
    let word = null;
    tokens.forEach(([piece, p], index) => {
      if (!piece) {
        canvas.append(make("span", "mask"));
        word = null;
        return;
      }
      const drawn = make("span", "piece " + tone(p), piece.replace(/^##|▁/gu, "") || "␣");
      drawn.title = "probability " + number(p);
      if (before.length && before[index] && !before[index][0]) drawn.classList.add("new");
      if (!word || !joins(piece)) {
        word = make("span", "word");
        canvas.append(word);
      }
      word.append(drawn);
    });
  };
  const showFrame = (index) => {
    $("frame").value = index;
    $("frame-out").textContent = index + " of " + (frames.length - 1);
    showCanvas(frames[index], frames[index - 1]);
  };
  // The canvases of the text that was kept: others were written beside it. Where it was changed afterwards, the end alone.
  const framesOf = (tokens) => {
    const known = tokens.every(({ step }) => step !== undefined);
    const steps = known ? Math.max(...tokens.map(({ step }) => step)) : 1;
    return Array.from({ length: steps + 1 }, (_, step) => tokens.map((one) => (
      (known ? one.step : 1) <= step ? [one.piece, one.probability] : ["", 0]
    )));
  };
  const endFrames = () => {
    $("scrub").hidden = $("legend").hidden = frames.length < 2;
    if (frames.length < 2) return;
    $("frame").max = frames.length - 1;
    showFrame(frames.length - 1);
  };

  // --- the result -------------------------------------------------------------------------------------
  const entry = (figure, text, about, kept) => {
    const item = make("li", kept ? "kept" : "");
    item.append(make("p", "figure", figure), make("p", "", text));
    if (about) item.append(make("p", "about", about));
    return item;
  };
  const showResult = (answer, ask) => {
    const [first] = answer.results;
    const several = answer.results.length > 1;
    frames = several ? [] : framesOf(first.tokens || []);
    $("canvas").replaceChildren();
    $("canvas").hidden = several;
    if (!first.tokens) $("canvas").append(make("span", "piece given", first.text));
    endFrames();
    $("notes").replaceChildren(...answer.notes.map((note) => make("li", "", note)));
    const items = [];
    for (const result of answer.results) {
      const cosine = result.cosine === undefined ? "" : number(result.cosine);
      const about = [];
      if (result.cosines) about.push("to the first " + number(result.cosines[0]) + ", to the second " + number(result.cosines[1]));
      if (result.id !== undefined) about.push(result.id);
      if (result.blanks) about.push("written: " + result.blanks.join(" … "));
      const figure = result.share === undefined ? cosine : Math.round(100 * result.share) + " %";
      items.push(entry(figure, result.text, about.join(" · "), true));
      if (several) continue;
      for (const other of result.alternatives || []) items.push(entry(number(other.cosine), other.text));
    }
    $("texts").replaceChildren(...items);
    $("best-head").textContent = ask.title;
    $("best").hidden = false;
    const close = first.cosine === undefined ? "" : " The cosine between its vector and the given one is " + number(first.cosine) + ".";
    say(answer.results.length === 1 ? "Written: " + first.text + close : answer.results.length + " texts.");
  };

  // --- asking -----------------------------------------------------------------------------------------
  const options = () => {
    const found = { cfg: Number($("cfg").value), steps: Number($("steps").value) };
    if (!model.guidance) found.cfg = 1;
    const length = Number($("length").value);
    if (length) found.length = length;
    found.candidates = length ? 1 : Number($("candidates").value);
    return found;
  };
  const refined = () => {
    const asked = { ...options(), search: Number($("search").value), explain: true, stream: true };
    // A search begins with as many candidates as suit it.
    if (asked.search) asked.candidates = 1;
    return asked;
  };
  let last = null; // what was asked last, so that a slider can ask it again

  async function run(ask) {
    if (!model) return;
    last = ask;
    running?.abort();
    const mine = (running = new AbortController());
    say("Writing …");
    $("canvas").hidden = false;
    $("canvas").replaceChildren();
    $("scrub").hidden = true;
    $("result").setAttribute("aria-busy", "true");
    try {
      const init = { method: "POST", signal: mine.signal };
      let path = ask.path;
      if (ask.file) {
        path += "?" + new URLSearchParams({ ...refined(), name: ask.file.name });
        init.body = ask.file;
        init.headers = headers({ "Content-Type": "application/octet-stream" });
      } else {
        init.body = JSON.stringify(ask.body());
        init.headers = headers({ "Content-Type": "application/json" });
      }
      const response = await fetch(path, init);
      if (!response.ok) throw await refused(response);
      if (!response.headers.get("content-type").startsWith("text/event-stream")) {
        const answer = await response.json();
        if (mine === running) showResult(answer, ask);
        return;
      }
      frames = [];
      let due = 0;
      for await (const [kind, data] of eventsOf(response)) {
        if (kind === "error") throw new Refused([data.error, data.hint].filter(Boolean).join(" "));
        if (kind === "canvas" && data.row === 0 && data.tokens) {
          if (data.step === 1) frames = []; // another candidate is written
          if (!frames.length) frames.push(data.tokens.map(() => ["", 0]));
          frames.push(data.tokens);
          await new Promise((done) => setTimeout(done, Math.max(0, due - performance.now())));
          if (mine !== running) return;
          due = performance.now() + STEP_MS;
          showCanvas(data.tokens, frames.at(-2));
        } else if (kind === "round" && data.row === 0) {
          say("Round " + data.done + " of refining, " + data.note);
        } else if (kind === "result") {
          if (mine === running) showResult(data, ask);
        }
      }
    } catch (error) {
      if (error.name === "AbortError" || mine !== running) return;
      say(error instanceof Refused ? error.message : "The server cannot be reached. Is it still running?", true);
    } finally {
      if (mine === running) $("result").removeAttribute("aria-busy");
    }
  }

  const vectorIn = (text) => {
    if (!/^\s*\[/u.test(text)) return null;
    try {
      const found = JSON.parse(text);
      return Array.isArray(found[0]) ? found : [found];
    } catch { return null; }
  };
  const write = () => run({
    path: "/generate",
    title: "Closest texts",
    body: () => {
      const text = $("text").value;
      const vectors = vectorIn(text);
      return { ...(vectors ? { vectors } : { texts: [text] }), ...refined() };
    },
  });
  const two = () => [$("first").value, $("second").value];
  const blend = () => run({
    path: "/blend",
    title: "Closest texts",
    body: () => ({ texts: two(), weights: [1 - $("share").value / 100, $("share").value / 100], ...refined() }),
  });
  const walk = () => run({
    path: "/interpolate",
    title: "From the first to the second",
    body: () => ({ texts: two(), points: 5, ...refined() }),
  });
  const fill = () => run({
    path: "/fill",
    title: "Filled",
    body: () => {
      const meaning = $("meaning").value.trim();
      const { candidates, ...others } = options();
      const meant = meaning ? { meanings: [meaning], candidates } : {};
      return { texts: [$("blanks").value], ...meant, ...others, explain: true, stream: true };
    },
  });
  const read = (file) => run({ path: "/read", title: file.name, file });

  const submits = { write, blend, fill };
  for (const [id, act] of Object.entries(submits)) {
    $(id).addEventListener("submit", (event) => { event.preventDefault(); act(); });
  }
  $("walk").addEventListener("click", walk);
  // Enter writes; Shift and Enter begin a line.
  for (const field of document.querySelectorAll("textarea")) {
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        field.form.requestSubmit();
      }
    });
  }

  // --- files ------------------------------------------------------------------------------------------
  $("file").addEventListener("change", () => {
    const [file] = $("file").files;
    if (file) read(file);
    $("file").value = "";
  });
  const zone = document.body;
  zone.addEventListener("dragover", (event) => { event.preventDefault(); $("write").classList.add("dropping"); });
  zone.addEventListener("dragleave", () => $("write").classList.remove("dropping"));
  zone.addEventListener("drop", (event) => {
    $("write").classList.remove("dropping");
    const [file] = event.dataTransfer.files;
    if (!file && event.target.matches("textarea")) return; // text that is dropped into a field goes there
    event.preventDefault();
    choose("write");
    if (file) read(file);
    else if (event.dataTransfer.getData("text")) { $("text").value = event.dataTransfer.getData("text"); write(); }
  });

  // --- tabs and sliders -------------------------------------------------------------------------------
  const names = ["write", "blend", "fill"];
  const choose = (name) => {
    for (const other of names) {
      const tab = $("tab-" + other);
      tab.setAttribute("aria-selected", String(other === name));
      tab.tabIndex = other === name ? 0 : -1;
      $(other).hidden = other !== name;
    }
    // Blanks are filled without a search.
    $("search").disabled = name === "fill";
    $("search").parentNode.classList.toggle("off", name === "fill");
    last = null;
  };
  names.forEach((name, index) => {
    $("tab-" + name).addEventListener("click", () => choose(name));
    $("tab-" + name).addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = names[(index + step + names.length) % names.length];
      choose(next);
      $("tab-" + next).focus();
    });
  });
  const withUnit = {
    cfg: (value) => number(Number(value)),
    length: (value) => (value === "0" ? "as predicted" : value + " tokens"),
    share: (value) => value + " %",
    search: (value) => (value === "0" ? "none" : value + " encoder calls"),
  };
  const label = (id) => {
    const text = (withUnit[id] || String)($(id).value);
    $(id + "-out").textContent = text;
    $(id).setAttribute("aria-valuetext", text);
  };
  const sliders = ["cfg", "steps", "length", "candidates", "search", "share"];
  for (const id of sliders) {
    $(id).addEventListener("input", () => {
      label(id);
      // Candidates differ in their length, so with one length there is one; a search chooses its own.
      const exact = $("length").value !== "0" || $("search").value !== "0";
      $("candidates").disabled = exact;
      $("candidates").parentNode.classList.toggle("off", exact);
    });
    $(id).addEventListener("change", () => { if (last) run(last); });
  }
  $("frame").addEventListener("input", () => showFrame(Number($("frame").value)));

  // --- the start --------------------------------------------------------------------------------------
  async function start() {
    const response = await fetch("/model", { headers: headers() });
    if (!response.ok) throw await refused(response);
    model = await response.json();
    $("token-form").hidden = true;
    const facts = { model: model.checkpoint, encoder: model.encoder, vector: model.dim + " numbers", writes: "up to " + model.max_tokens + " tokens" };
    $("model").replaceChildren(...Object.entries(facts).map(([name, value]) => {
      const item = make("div");
      item.append(make("dt", "", name), make("dd", "", value));
      return item;
    }));
    for (const [id, value] of Object.entries(model.defaults)) {
      if (!sliders.includes(id)) continue;
      if (value > Number($(id).max)) $(id).max = value;
      if (value % (Number($(id).step) || 1)) $(id).step = "any";
      $(id).value = value;
    }
    $("length").max = model.max_tokens;
    $("sure").textContent = model.sure + " and more";
    $("fair").textContent = model.fair + " and more";
    $("cfg").disabled = !model.guidance;
    sliders.forEach(label);
    document.body.dataset.ready = "true";
  }
  $("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    token = $("token").value.trim();
    sessionStorage.setItem("sgdd-token", token);
    begin();
  });
  const begin = () => start().catch((error) => say(error instanceof Refused ? error.message : "The server cannot be reached. Is it still running?", true));
  const inAddress = new URLSearchParams(location.hash.slice(1)).get("token");
  if (inAddress) {
    token = inAddress;
    sessionStorage.setItem("sgdd-token", token);
    history.replaceState(null, "", location.pathname);
  }
  begin();
})();
