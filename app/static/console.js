// What the page does by itself: live news, keys, and small conveniences. Every action also works without it.
(() => {
  "use strict";
  const POLL_MS = 20_000;
  const CONNECT_MS = 6_000;
  const $ = (selector) => document.querySelector(selector);
  const all = (selector) => document.querySelectorAll(selector);
  const lang = document.documentElement.lang || "en";
  const whole = new Intl.NumberFormat(lang, { maximumFractionDigits: 0 });
  const tenth = new Intl.NumberFormat(lang, { maximumFractionDigits: 1 });
  const share = (part) =>
    new Intl.NumberFormat(lang, { style: "percent", maximumFractionDigits: part > 0 && part < 0.1 ? 1 : 0 }).format(part);

  // --- live news -------------------------------------------------------------------------------------------------
  let fresh = 0;
  let known = 0;
  let polling = null;

  function announce(count, news) {
    const bar = $("[data-news]");
    fresh += count;
    if (bar && fresh > 0) {
      const text = bar.querySelector("[data-one]");
      text.textContent = fresh === 1 ? text.dataset.one : text.dataset.many.replace("{n}", whole.format(fresh));
      bar.hidden = false;
    }
    waiting(news);
  }

  // one count, wherever it is shown: the tab's, and those of the queue's filters
  function waiting(news) {
    if (news.open === undefined) return;
    write("open", news.open);
    for (const element of all("[data-open-outcome]")) {
      element.textContent = whole.format(news.open_outcomes[element.dataset.openOutcome] ?? 0);
    }
  }

  function write(name, value, format = whole) {
    for (const element of all(`[data-figure="${name}"]`)) {
      element.textContent = value === null || value === undefined ? "–" : format.format(value);
    }
  }

  function figures(news) {
    write("per_second", news.per_second, tenth);
    write("p50_ms", news.p50_ms);
    write("p99_ms", news.p99_ms);
    waiting(news);
    write("sequence", news.sequence);
    const total = Object.values(news.outcomes).reduce((sum, count) => sum + count, 0);
    for (const [outcome, count] of Object.entries(news.outcomes)) {
      const row = $(`[data-outcome="${outcome}"]`);
      if (!row) continue;
      const part = total ? count / total : 0;
      row.querySelector("[data-count]").textContent = whole.format(count);
      row.querySelector("[data-share]").textContent = share(part);
      row.querySelector("rect").setAttribute("width", `${(part * 100).toFixed(1)}%`);
    }
    const light = $("#audit-light");
    if (light && light.dataset.audit !== news.audit) {
      light.dataset.audit = news.audit;
      document.body.dispatchEvent(new CustomEvent("plumbline:audit"));
    }
    document.dispatchEvent(new CustomEvent("plumbline:figures", { detail: news }));
  }

  function state(name) {
    for (const element of all("[data-live]")) element.dataset.state = name;
  }

  async function poll(stream) {
    try {
      const answer = await fetch(`${stream.dataset.pulse}?after=${known}`, { headers: { "HX-Request": "true" } });
      if (answer.status === 401) return location.reload();
      if (!answer.ok) return state("off");
      const news = await answer.json();
      state("polling");
      if (news.newest > known && news.new > 0) {
        announce(news.new, news);
        document.body.dispatchEvent(new CustomEvent("alert", { detail: {} }));
      }
      known = Math.max(known, news.newest);
      if ($("#rate")) figures(news);
    } catch {
      state("off");
    }
  }

  function fallBack(stream) {
    if (polling) return;
    polling = setInterval(() => poll(stream), POLL_MS);
    poll(stream);
  }

  function watch() {
    const stream = $("[data-stream]");
    if (!stream) return;
    known = Number(stream.dataset.after);
    const late = setTimeout(() => fallBack(stream), CONNECT_MS);
    document.body.addEventListener("htmx:sse:after:connection", () => {
      clearTimeout(late);
      clearInterval(polling);
      polling = null;
      state("on");
    });
    // refused, out of reach, or broken off: ask from time to time until the extension has the stream back
    for (const name of ["htmx:response:error", "htmx:error", "htmx:sse:error"]) {
      stream.addEventListener(name, () => { clearTimeout(late); state("off"); fallBack(stream); });
    }
    stream.addEventListener("alert", (event) => {
      const news = JSON.parse(event.detail.data);
      known = Math.max(known, Number(event.detail.id));
      announce(news.new, news);
    });
    stream.addEventListener("figures", (event) => figures(JSON.parse(event.detail.data)));
  }

  // --- keys ------------------------------------------------------------------------------------------------------
  function step(by) {
    const rows = [...all("a.open")];
    if (!rows.length) return;
    const at = rows.indexOf(document.activeElement);
    rows[Math.min(rows.length - 1, Math.max(0, at < 0 ? 0 : at + by))].focus();
  }

  function choose(verdict) {
    const form = $("[data-verdict]");
    if (!form) return;
    form.elements.verdict.value = verdict;
    form.querySelector("button.primary").focus();
  }

  const go = (path) => () => location.assign(path);

  function act(event, action) {
    if (document.querySelector("dialog[open]")) return;
    event.preventDefault();
    action();
  }

  function keys() {
    const help = $("#help");
    if (!help || !window.tinykeys) return;
    $("[data-help]").addEventListener("click", () => help.showModal());
    const places = { "g o": go("/"), "g q": go("/alerts"), "g t": go("/transactions") };
    const actions = {
      j: () => { const next = $("a[rel=next]"); if (next) next.click(); else step(1); },
      k: () => step(-1),
      f: () => choose("fraud"),
      g: () => choose("genuine"),
      u: () => choose("unsure"),
      n: () => $("#note")?.focus(),
      "/": () => { const search = $("[data-search]"); if (search) search.focus(); else go("/transactions?find")(); },
      "Shift+?": () => help.showModal(),
    };
    const guarded = (bindings) => Object.fromEntries(
      Object.entries(bindings).map(([key, action]) => [key, (event) => act(event, action)]),
    );
    // off while typing; a chosen radio button or a link under focus is no typing
    const typing = (event) => event.repeat || event.isComposing || event.ctrlKey || event.metaKey || event.altKey ||
      event.target.matches("textarea, select, [contenteditable], input:not([type=radio], [type=checkbox])");
    // two listeners: in one, `g` alone would wait for what may follow it; chosen by itself it only marks a button
    for (const bindings of [places, actions]) window.tinykeys.tinykeys(window, guarded(bindings), { ignore: typing });
  }

  // --- conveniences ----------------------------------------------------------------------------------------------
  function themes() {
    const button = $("[data-theme-switch]");
    if (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches) button.value = "light";
  }

  function once() {
    const form = $("[data-verdict]");
    form?.addEventListener("submit", () => { form.querySelector("button.primary").disabled = true; });
    // a page that comes back from the browser's memory may be sent again
    addEventListener("pageshow", () => { const button = form?.querySelector("button.primary"); if (button) button.disabled = false; });
    if (location.search === "?find") $("[data-search]")?.focus();
  }

  // the address says how many rows are shown, so that Back comes to as many
  function rows() {
    document.body.addEventListener("htmx:after:request", (event) => {
      const { sourceElement, response } = event.detail.ctx;
      const address = sourceElement?.dataset?.address;
      if (address && response?.status === 200) history.replaceState(null, "", address);
    });
  }

  watch();
  keys();
  themes();
  once();
  rows();
})();
