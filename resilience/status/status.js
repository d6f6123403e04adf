// One model, two ways to feed it: a stream, and polling while there is none. Whatever comes from the server is put on
// the page as text and never as markup.
"use strict";
(() => {
  const SERIES = ["ok", "failed", "rejected"], SECONDS = 60, SVG = "http://www.w3.org/2000/svg";
  const by = (id) => document.getElementById(id);
  const rows = new Map();
  let board = null, guarded = false, stream = null, timer = null, heard = 0, since = 0;

  const node = (name, kind, text) => {
    const made = document.createElement(name);
    if (kind) made.className = kind;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const put = (where, text) => { if (where.textContent !== text) where.textContent = text; };
  const say = (text) => { by("said").textContent = text; };
  const link = (text, live) => { put(by("link"), text); by("link").dataset.live = live ? "yes" : "no"; };

  function make(policy) {
    const tr = node("tr"), head = node("th");
    head.scope = "row";
    head.append(node("span", "name", policy.name), node("span", "kind"));
    const state = node("td"), word = node("span", "state"), detail = node("span", "detail");
    state.append(word, detail);
    const rate = node("td", "number"), flight = node("td", "number"), chart = node("td", "chart");
    rate.dataset.label = "calls/s";
    rate.append(node("span"), node("span", "detail"));
    flight.dataset.label = "in flight";
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", "0 0 180 28");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("role", "img");
    const paths = SERIES.map((series) => {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("class", series);
      svg.append(path);
      return path;
    });
    chart.append(svg);
    const error = node("td", "error"), change = node("td");
    tr.append(head, state, rate, flight, chart, error, change);
    const history = Object.fromEntries(SERIES.map((series) => [series, new Array(SECONDS).fill(0)]));
    return { tr, head, word, detail, rate, flight, svg, paths, error, change, history, button: null, policy, second: 0 };
  }

  function advance(row, second) {
    const by = Math.min(SECONDS, Math.max(0, second - row.second));
    row.second = Math.max(row.second, second);
    if (!by || !SERIES.some((series) => row.history[series].some(Boolean))) return false;
    for (const series of SERIES) row.history[series].splice(0, by), row.history[series].push(...new Array(by).fill(0));
    return true;
  }

  function draw(row) {
    const totals = row.history.ok.map((_, at) => SERIES.reduce((sum, series) => sum + row.history[series][at], 0));
    const top = Math.max(1, ...totals), base = new Array(SECONDS).fill(28);
    SERIES.forEach((series, place) => {
      let d = "";
      row.history[series].forEach((count, at) => {
        if (!count) return;
        const height = Math.max(1, 28 * count / top);
        base[at] -= height;
        d += `M${at * 3} ${base[at].toFixed(1)}h2.4v${height.toFixed(1)}h-2.4z`;
      });
      row.paths[place].setAttribute("d", d);
    });
    const sum = (series) => row.history[series].reduce((a, b) => a + b, 0);
    row.svg.setAttribute("aria-label",
      `last minute: ${sum("ok")} ok, ${sum("failed")} failed, ${sum("rejected")} rejected`);
  }

  function show(row, policy) {
    const before = row.policy.state, known = row.second > 0;
    row.policy = policy;
    row.tr.className = policy.level;
    put(row.head.lastChild, policy.kind.replaceAll("_", " ") + (policy.count > 1 ? ` × ${policy.count}` : ""));
    put(row.word, policy.state);
    put(row.detail, policy.detail);
    put(row.rate.firstChild, policy.rates.ok.toFixed(1));
    const bad = ["failed", "rejected"].filter((series) => policy.rates[series]);
    put(row.rate.lastChild, bad.map((series) => `${policy.rates[series].toFixed(1)} ${series}`).join(", "));
    put(row.flight, policy.in_flight === null ? "–" : String(policy.in_flight));
    put(row.error, policy.last_error ? policy.last_error.filter(Boolean).join(": ") : "");
    row.error.hidden = !policy.last_error && matchMedia("(max-width: 44rem)").matches;
    if (guarded && policy.kind === "circuit_breaker") offer(row, policy);
    if (known && before !== policy.state) say(`${policy.name} is ${policy.state}`);
  }

  function offer(row, policy) {
    if (!row.button) {
      row.button = node("button");
      row.button.type = "button";
      row.button.addEventListener("click", () => change(row));
      row.change.append(row.button);
    }
    const verb = policy.state === "isolated" ? "Release" : "Isolate";
    put(row.button, verb);
    row.button.setAttribute("aria-label", `${verb} ${policy.name}`);
  }

  async function change(row) {
    const verb = row.policy.state === "isolated" ? "release" : "isolate";
    row.button.disabled = true;
    try {
      const answer = await fetch(verb, {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-Resilience-Status": "1" },
        body: JSON.stringify({ id: board, name: row.policy.name, reason: "from the status page" }),
      });
      if (!answer.ok) say(`${row.policy.name}: ${(await answer.json()).says}`);
      else await poll();
    } catch {
      say(`${row.policy.name}: not reached`);
    } finally {
      row.button.disabled = false;
      row.button.focus();
    }
  }

  function place(key, row) {
    let after = null;
    for (const [other, known] of rows) if (other > key && (after === null || other < after[0])) after = [other, known];
    by("rows").insertBefore(row.tr, after ? after[1].tr : null);
  }

  function take(message, whole) {
    const started = performance.now();
    if (message.id !== board) {
      board = message.id;
      rows.clear();
      by("rows").replaceChildren();
    }
    if ("guarded" in message) guarded = message.guarded;
    const seen = new Set();
    for (const policy of message.policies) {
      const key = JSON.stringify([policy.name, policy.kind]);
      seen.add(key);
      let row = rows.get(key);
      if (!row) {
        row = make(policy);
        place(key, row);
        rows.set(key, row);
      }
      show(row, policy);
      advance(row, message.second);
      row.second = message.second;
      for (const series of SERIES) {
        const counts = policy.history[series];
        row.history[series].splice(SECONDS - counts.length, counts.length, ...counts);
      }
      draw(row);
    }
    const gone = whole ? [...rows.keys()].filter((key) => !seen.has(key)) : message.gone.map((at) => JSON.stringify(at));
    for (const key of gone) {
      rows.get(key)?.tr.remove();
      rows.delete(key);
    }
    for (const [key, row] of rows) if (!seen.has(key) && advance(row, message.second)) draw(row);
    sift();
    heard = Date.now();
    document.documentElement.dataset.cost = (performance.now() - started).toFixed(1);
  }

  function sift() {
    const words = by("find").value.toLowerCase(), troubled = by("troubled").checked;
    let shown = 0, bad = 0;
    for (const { tr, policy } of rows.values()) {
      const fits = policy.name.toLowerCase().includes(words) && !(troubled && policy.level === "good");
      if (tr.hidden === fits) tr.hidden = !fits;
      shown += fits;
      bad += policy.level !== "good";
    }
    put(by("tally"), `${shown} of ${rows.size}, ${bad} need attention`);
    by("empty").hidden = rows.size > 0;
  }

  async function poll() {
    try {
      const answer = await fetch("data.json", { cache: "no-store" });
      if (!answer.ok) throw new Error(answer.status);
      take(await answer.json(), true);
      link(stream ? "live" : "live, by polling", true);
    } catch {
      link("not connected, trying again", false);
    }
  }

  function open() {
    since = Date.now();
    stream = new EventSource("events");
    stream.addEventListener("full", (event) => { take(JSON.parse(event.data), true); link("live", true); });
    stream.addEventListener("tick", (event) => { take(JSON.parse(event.data), false); link("live", true); });
    stream.onerror = () => { if (stream) close(); };
  }

  function close() {
    stream?.close();
    stream = null;
  }

  // A stream that says nothing for three seconds is as good as none: something on the way holds it back.
  function look() {
    if (document.hidden) return;
    const silent = Date.now() - Math.max(heard, since) > 3000;
    if (stream && silent) close();
    if (!stream) {
      poll();
      if (Date.now() - since > (heard > since ? 1500 : 15000)) open();
    }
  }

  function watch() {
    clearInterval(timer);
    if (document.hidden) return close();
    open();
    timer = setInterval(look, 1000);
  }

  by("filter").addEventListener("submit", (event) => event.preventDefault());
  by("filter").addEventListener("input", sift);
  document.addEventListener("visibilitychange", watch);
  watch();
})();
