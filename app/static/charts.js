// Two charts, drawn by uPlot in the page's own colours: the live rate, and an account's recent transactions.
(() => {
  "use strict";
  const lang = document.documentElement.lang || "en";
  const utc = (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC");
  const compact = new Intl.NumberFormat(lang, { notation: "compact", maximumFractionDigits: 1 });
  const plain = new Intl.NumberFormat(lang, { maximumFractionDigits: 1 });
  const hours = new Intl.DateTimeFormat(lang, { hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone: "UTC" });
  const days = new Intl.DateTimeFormat(lang === "en" ? "en-GB" : lang, { day: "numeric", month: "short", timeZone: "UTC" });

  // a colour of the style sheet as the theme in force resolves it
  function colour(name, alpha) {
    const probe = document.createElement("span");
    probe.style.color = alpha ? `color-mix(in srgb, var(${name}) ${alpha}%, transparent)` : `var(${name})`;
    document.body.append(probe);
    const resolved = getComputedStyle(probe).color;
    probe.remove();
    return resolved;
  }

  function axes(xValues, yValues) {
    const font = `12px ${getComputedStyle(document.body).fontFamily}`;
    const shared = { stroke: () => colour("--ink-3"), font, ticks: { show: false } };
    return [
      { ...shared, grid: { show: false }, values: xValues, space: 90, size: 32 },
      { ...shared, grid: { stroke: () => colour("--line"), width: 1 }, values: yValues, size: 52, space: 45 },
    ];
  }

  function sized(element, options, data) {
    const chart = new uPlot({ width: element.clientWidth, height: element.clientHeight, ...options }, data, element);
    new ResizeObserver(() => chart.setSize({ width: element.clientWidth, height: element.clientHeight })).observe(element);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => chart.redraw(false));
    return chart;
  }

  function rate(element) {
    // the newest bucket is still filling: it would always look like a fall
    const data = (news) => {
      const whole = news.buckets.slice(0, -1);
      return [whole.map(([at]) => at), whole.map(([, count]) => count / news.bucket_seconds)];
    };
    const chart = sized(element, {
      tzDate: utc,
      cursor: { show: false },
      legend: { show: false },
      padding: [8, 8, 0, 0],
      scales: { y: { range: (_, low, high) => [0, Math.max(1, high * 1.15)] } },
      axes: axes((_, ticks) => ticks.map((at) => hours.format(at * 1000)), (_, ticks) => ticks.map((value) => plain.format(value))),
      series: [{}, {
        label: element.dataset.label,
        stroke: () => colour("--accent"),
        fill: () => colour("--accent", 12),
        width: 2,
        points: { show: false },
      }],
    }, data(JSON.parse(element.dataset.rate)));
    document.addEventListener("plumbline:figures", (event) => chart.setData(data(event.detail)));
  }

  const MARKS = {
    approve: (canvas, x, y, r) => canvas.arc(x, y, r, 0, 2 * Math.PI),
    review: (canvas, x, y, r) => { canvas.moveTo(x, y - r * 1.2); canvas.lineTo(x + r * 1.15, y + r * 0.9); canvas.lineTo(x - r * 1.15, y + r * 0.9); canvas.closePath(); },
    decline: (canvas, x, y, r) => canvas.rect(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8),
  };

  function stems(points) {
    return (chart) => {
      const canvas = chart.ctx;
      const ratio = devicePixelRatio;
      const floor = chart.valToPos(0, "y", true);
      canvas.save();
      for (const point of points) {
        const x = chart.valToPos(point.at, "x", true);
        const y = chart.valToPos(point.amount, "y", true);
        const ink = colour(`--${MARKS[point.outcome] ? point.outcome : "ink-3"}`);
        canvas.strokeStyle = point.here ? ink : colour(`--${point.outcome}`, 45);
        canvas.lineWidth = (point.here ? 2.5 : 1.5) * ratio;
        canvas.beginPath();
        canvas.moveTo(x, floor);
        canvas.lineTo(x, y);
        canvas.stroke();
        canvas.fillStyle = ink;
        canvas.beginPath();
        (MARKS[point.outcome] ?? MARKS.approve)(canvas, x, y, (point.here ? 6 : 4) * ratio);
        canvas.fill();
        if (point.here) {
          canvas.strokeStyle = ink;
          canvas.lineWidth = 1.5 * ratio;
          canvas.beginPath();
          canvas.arc(x, y, 11 * ratio, 0, 2 * Math.PI);
          canvas.stroke();
        }
      }
      canvas.restore();
    };
  }

  function timeline(element) {
    const points = JSON.parse(element.dataset.points);
    const readout = document.getElementById("readout");
    const here = points.find((point) => point.here);
    const tell = (point) => { readout.textContent = point ? point.text : ""; };
    tell(here);
    const times = points.map((point) => point.at);
    const span = times[times.length - 1] - times[0];
    const margin = Math.max(span * 0.04, 600);
    const shown = span > 3 * 86400 ? days : hours;
    sized(element, {
      tzDate: utc,
      legend: { show: false },
      padding: [14, 12, 0, 0],
      cursor: { y: false, points: { show: false }, drag: { setScale: false, x: false, y: false } },
      scales: {
        x: { range: () => [times[0] - margin, times[times.length - 1] + margin] },
        y: { range: (_, low, high) => [0, Math.max(1, high * 1.15)] },
      },
      axes: axes((_, ticks) => ticks.map((at) => shown.format(at * 1000)), (_, ticks) => ticks.map((value) => compact.format(value))),
      series: [{}, { paths: () => null, points: { show: false } }],
      hooks: {
        draw: [stems(points)],
        setCursor: [(chart) => tell(chart.cursor.idx === null || chart.cursor.left < 0 ? here : points[chart.cursor.idx])],
      },
    }, [times, points.map((point) => point.amount)]);
  }

  const rateElement = document.getElementById("rate");
  const timelineElement = document.getElementById("timeline");
  if (rateElement) rate(rateElement);
  if (timelineElement) timeline(timelineElement);
})();
