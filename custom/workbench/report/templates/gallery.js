// Images with the outlines of ground truth and predictions.
(() => {
  const { make, makeSVG, View } = viewer;
  const gallery = document.getElementById("gallery");
  const data = JSON.parse(document.getElementById("gallery-data").textContent);
  const cards = gallery.querySelector(".cards");
  gallery.classList.toggle("several", data.runs.length > 1);

  const slider = document.getElementById("least-score");
  const threshold = () => Number(slider.value);

  const tip = new viewer.Tip(document.getElementById("tip"), (cell) => {
    const words = [`${cell.kind}: ${data.classes[cell.label]}`];
    if (cell.score !== undefined) words.push(`score ${cell.score.toFixed(2)}`);
    if (cell.iou !== null) words.push(`IoU ${cell.iou.toFixed(2)}`);
    words.push(data.outcomes[cell.outcome]);
    return words.join(" · ");
  });

  function outlines(image, run) {
    const group = makeSVG("g", { transform: "translate(.5 .5)", "fill-rule": "evenodd" });
    image.truth.forEach(([label, path], i) => {
      const [outcome, iou] = image.runs[run].truth[i];
      const node = makeSVG("path", { d: path, class: `truth c${label} o${outcome}` });
      node.cell = { kind: "ground truth", label, outcome, iou };
      group.append(node);
    });
    for (const [label, score, iou, outcome, path] of image.runs[run].predictions) {
      const node = makeSVG("path", { d: path, class: `prediction c${label} o${outcome}` });
      node.cell = { kind: "prediction", label, score, outcome, iou };
      node.classList.toggle("below", score < threshold());
      group.append(node);
    }
    return group;
  }

  function stage(image, run, view) {
    const name = data.runs.length > 1 ? `${image.name}, ${data.runs[run]}` : image.name;
    const svg = makeSVG("svg", { viewBox: view.full.join(" ") });
    svg.append(
      makeSVG("image", { href: image.uri, width: image.width, height: image.height }),
      outlines(image, run),
    );
    return viewer.stage(svg, view, name, tip);
  }

  function fill(card) {
    if (card.filled) return;
    card.filled = true;
    const image = card.image;
    const view = new View(image.width, image.height);
    const wide = ["⤢", "Larger or smaller", () => card.classList.toggle("wide")];
    card.querySelector("header").append(viewer.tools(view, image.name, [wide]));
    const stages = card.querySelector(".stages");
    stages.replaceChildren(...data.runs.map((name, run) => {
      const metrics = make("p", { class: "metrics" }, image.runs[run].metrics);
      if (data.runs.length > 1) metrics.prepend(make("b", {}, name), " · ");
      return make("figure", {}, stage(image, run, view), metrics);
    }));
  }

  // An overlay is drawn when it comes near the window.
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) fill(entry.target);
  }, { rootMargin: "400px" });

  for (const image of data.images) {
    const card = make("article", { class: "card" },
      make("header", {}, make("h3", { title: image.name }, image.name)),
      make("div", { class: "stages" }, ...data.runs.map(() => make("div", { class: "stage" }))));
    card.image = image;
    near.observe(card);
    cards.append(card);
  }
  addEventListener("beforeprint", () => { for (const card of cards.children) fill(card); });

  document.getElementById("order").addEventListener("change", ({ target }) => {
    const key = target.value;
    const value = (card) => card.image.sort[key];
    const sorted = [...cards.children].sort((a, b) => (value(a) > value(b)) - (value(a) < value(b)));
    cards.append(...sorted);
  });
  for (const [id, name] of [["show-truth", "hide-truth"], ["show-predictions", "hide-predictions"]]) {
    document.getElementById(id).addEventListener("change", ({ target }) => gallery.classList.toggle(name, !target.checked));
  }
  for (const input of gallery.querySelectorAll("[data-hide]")) {
    input.addEventListener("change", () => gallery.classList.toggle(`hide-${input.dataset.hide}`, !input.checked));
  }
  for (const input of gallery.querySelectorAll("[name=colour]")) {
    input.addEventListener("change", () => { gallery.dataset.colour = input.value; });
  }
  slider.addEventListener("input", () => {
    document.getElementById("shown-score").textContent = threshold().toFixed(2);
    for (const node of gallery.querySelectorAll(".prediction")) {
      node.classList.toggle("below", node.cell.score < threshold());
    }
  });
  // A browser may keep the state of the controls over a reload.
  gallery.querySelector("form").reset();
})();
