"use strict";
// The page of tools/serve.py. Threshold and classes only hide and show what is drawn.
(async () => {
  const { make, makeSVG, View } = viewer;
  const find = (id) => document.getElementById(id);
  const number = (value) => value.toLocaleString("en");

  const model = await (await fetch("model")).json();
  find("model").textContent = `${model.title} · ${model.classes.map((c) => c.name).join(", ")}`;
  document.title = `MMCell: ${model.title}`;
  find("limits").textContent = `TIFF, SVS, PNG, JPEG or BMP, up to ${Math.floor(model.upload_bytes / 2 ** 20)} MiB and ${Math.floor(model.pixels / 1e6)} million pixels`;

  const rows = model.classes.map((c, i) => {
    const box = make("input", { type: "checkbox", checked: "", id: `class-${i}` });
    const swatch = make("span", { class: "swatch" });
    swatch.style.background = c.colour;
    const count = make("td", { class: "number" });
    const density = make("td", { class: "number density" });
    const row = make("tr", {}, make("th", { scope: "row" }, make("label", {}, box, swatch, c.name)), count, density);
    box.addEventListener("change", () => show());
    find("classes").append(row);
    return { box, row, count, density };
  });
  const links = model.downloads.map(({ kind, about }) => {
    const link = make("a", { download: "", id: `download-${kind}` }, about);
    find("downloads").append(make("li", {}, link));
    return { kind, link };
  });
  const score = find("score");
  find("choice").reset();  // a browser may keep the state of the controls over a reload
  score.value = model.score;
  score.addEventListener("input", () => show());
  find("contours").addEventListener("change", ({ target }) => find("image").classList.toggle("no-contours", !target.checked));
  // The pixel size that the file gives may be missing or wrong. What was typed stays
  // until a file has its own.
  const mpp = find("mpp");
  mpp.value = "";
  const typed = () => mpp.value !== (shown?.given ?? "");
  const pixelSize = () => (typed() ? Math.max(mpp.valueAsNumber, 0) : shown?.mpp) || NaN;
  mpp.addEventListener("input", () => show());
  find("choice").addEventListener("submit", (event) => event.preventDefault());

  // The image with its cells: for each class a group, its cells with the best first.
  let shown = null;

  const tip = new viewer.Tip(find("tip"), ({ label, score, area }) => {
    const words = [model.classes[label].name, `score ${score.toFixed(2)}`, `${number(area)} px`];
    if (pixelSize()) words.push(`${(area * pixelSize() ** 2).toFixed(1)} µm²`);
    return words.join(" · ");
  });

  function draw(result) {
    const { width, height } = result;
    const svg = makeSVG("svg", { viewBox: `0 0 ${width} ${height}` });
    svg.append(makeSVG("image", { href: `results/${result.key}/image`, width, height }));
    const groups = model.classes.map((c) => {
      const group = makeSVG("g", { transform: "translate(.5 .5)", "fill-rule": "evenodd", stroke: c.colour });
      svg.append(group);
      return { group, scores: [], drawn: 0 };
    });
    for (const [label, score, area, path] of result.cells) {
      const node = makeSVG("path", { d: path });
      node.cell = { label, score, area };
      groups[label].group.append(node);
      groups[label].scores.push(score);
    }
    for (const one of groups) one.drawn = one.scores.length;
    const view = new View(width, height);
    const stage = viewer.stage(svg, view, result.name, tip);
    find("image").replaceChildren(viewer.tools(view, result.name), stage);
    if (result.mpp) mpp.value = +result.mpp.toFixed(4);
    else if (!typed()) mpp.value = "";
    shown = { ...result, groups, given: result.mpp ? mpp.value : "" };
    find("name").textContent = result.name;
    const facts = [`${number(width)} × ${number(height)} pixels`, `${result.seconds.toFixed(1)} s`];
    find("facts").textContent = facts.join(" · ");
    find("result").hidden = false;
    show();
  }

  function show() {
    const least = score.valueAsNumber;
    find("least").textContent = least.toFixed(2);
    if (!shown) return;
    find("choice").classList.toggle("no-scale", !pixelSize());
    const area = shown.width * shown.height * pixelSize() ** 2 / 1e6;
    const density = (count) => (count / area).toLocaleString("en", { maximumFractionDigits: 0 });
    let total = 0;
    shown.groups.forEach((one, i) => {
      const { box, row, count, density: cell } = rows[i];
      let kept = one.scores.findIndex((s) => s < least);
      if (kept < 0) kept = one.scores.length;
      // Only those between the old and the new threshold change.
      const nodes = one.group.children;
      for (let n = kept; n < one.drawn; n++) nodes[n].setAttribute("display", "none");
      for (let n = one.drawn; n < kept; n++) nodes[n].removeAttribute("display");
      one.drawn = kept;
      one.group.setAttribute("display", box.checked ? "inline" : "none");
      row.classList.toggle("off", !box.checked);
      count.textContent = number(kept);
      cell.textContent = density(kept);
      if (box.checked) total += kept;
    });
    find("total").textContent = number(total);
    find("total-density").textContent = density(total);
    const classes = rows.flatMap(({ box }, i) => (box.checked ? [i] : []));
    const query = new URLSearchParams({ score: least, classes: classes.join(",") });
    if (typed() && pixelSize()) query.set("mpp", mpp.value);
    for (const { kind, link } of links) link.href = `results/${shown.key}/${kind}?${query}`;
  }

  function say(text, busy = false) {
    find("state").textContent = text;
    find("state").classList.toggle("busy", busy);
  }

  function complain(text) {
    find("error").textContent = text;
    find("error").hidden = !text;
  }

  let sending = null;
  async function send(file) {
    sending?.abort();
    const mine = sending = new AbortController();
    complain("");
    const began = performance.now();
    const tick = () => say(`${file.name}: segmenting … ${Math.floor((performance.now() - began) / 1000)} s`, true);
    tick();
    const clock = setInterval(tick, 1000);
    try {
      // The server says so too, but may close before the browser has sent all.
      if (file.size > model.upload_bytes) throw new Error(`${file.name}: larger than ${Math.floor(model.upload_bytes / 2 ** 20)} MiB.`);
      const answer = await fetch("results", {
        method: "POST", body: file, signal: mine.signal,
        headers: { "Content-Type": "application/octet-stream", "X-File-Name": encodeURIComponent(file.name) },
      });
      const result = await answer.json();
      if (!answer.ok) throw new Error(result.error);
      draw(result);
    } catch (error) {
      if (mine.signal.aborted) return;
      const lost = error instanceof TypeError;  // what fetch throws without an answer
      complain(lost ? "The server does not answer. Is tools/serve.py still running?" : error.message);
    } finally {
      clearInterval(clock);
      if (sending === mine) say("");
    }
  }

  function take(files) {
    if (files.length === 1) send(files[0]);
    else if (files.length) complain("One image at a time, please; tools/predict.py takes whole folders.");
  }

  find("file").addEventListener("change", ({ target }) => {
    take([...target.files]);
    target.value = "";  // the same file may be chosen again
  });
  const over = (on) => document.body.classList.toggle("over", on);
  document.addEventListener("dragover", (event) => { event.preventDefault(); over(true); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) over(false); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    over(false);
    take([...event.dataTransfer.files]);
  });
  show();
})();
