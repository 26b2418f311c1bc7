// Pictures with the outlines of ground truth and predictions.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const gallery = document.getElementById("gallery");
  const data = JSON.parse(document.getElementById("gallery-data").textContent);
  const cards = gallery.querySelector(".cards");
  const tip = document.getElementById("tip");
  gallery.classList.toggle("several", data.runs.length > 1);

  function make(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }

  function makeSVG(tag, attributes) {
    const node = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  }

  // One view for all stages of a card: the same part of the same image.
  class View {
    constructor(width, height) {
      this.full = [0, 0, width, height];
      this.stages = [];
      this.reset();
    }

    reset() { this.set(...this.full); }

    set(x, y, width, height) {
      const [, , fullWidth, fullHeight] = this.full;
      x = Math.min(Math.max(x, -width / 2), fullWidth - width / 2);
      y = Math.min(Math.max(y, -height / 2), fullHeight - height / 2);
      this.box = [x, y, width, height];
      const text = this.box.map((v) => +v.toFixed(2)).join(" ");
      for (const svg of this.stages) svg.setAttribute("viewBox", text);
    }

    // Around a point of the image, which stays where it is.
    zoom(factor, px, py) {
      const [x, y, width, height] = this.box;
      const [, , fullWidth, fullHeight] = this.full;
      if (px === undefined) [px, py] = [x + width / 2, y + height / 2];
      const least = Math.min(1, 24 / Math.max(fullWidth, fullHeight));
      const scale = Math.min(1, Math.max(least, width / fullWidth / factor));
      if (scale === 1) return this.reset();
      const ratio = (scale * fullWidth) / width;
      this.set(px - (px - x) * ratio, py - (py - y) * ratio, width * ratio, height * ratio);
    }

    move(dx, dy) {
      const [x, y, width, height] = this.box;
      this.set(x + dx, y + dy, width, height);
    }
  }

  function inImage(svg, event) {
    return new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  }

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
    view.stages.push(svg);
    const node = make("div", { class: "stage", tabindex: 0, role: "group", "aria-label": `${name}: picture, zoom with + and -` }, svg);
    node.addEventListener("wheel", (event) => {
      // Scrolling over the pictures must not end in one of them.
      if (document.activeElement !== node && !event.ctrlKey) return;
      event.preventDefault();
      const { x, y } = inImage(svg, event);
      view.zoom(Math.exp(-event.deltaY / 300), x, y);
    }, { passive: false });
    node.addEventListener("dblclick", (event) => {
      const { x, y } = inImage(svg, event);
      view.zoom(2, x, y);
    });
    let from = null;
    node.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      from = inImage(svg, event);
      node.setPointerCapture(event.pointerId);
    });
    node.addEventListener("pointermove", (event) => {
      if (from) {
        const to = inImage(svg, event);
        view.move(from.x - to.x, from.y - to.y);
        tip.hidden = true;
      } else {
        point(event);
      }
    });
    for (const end of ["pointerup", "pointercancel"]) node.addEventListener(end, () => { from = null; });
    node.addEventListener("pointerleave", () => { tip.hidden = true; });
    node.addEventListener("keydown", (event) => {
      const [, , width, height] = view.box;
      const act = {
        "+": () => view.zoom(1.5), "=": () => view.zoom(1.5), "-": () => view.zoom(1 / 1.5),
        0: () => view.reset(), Escape: () => node.blur(),
        ArrowLeft: () => view.move(-width / 8, 0), ArrowRight: () => view.move(width / 8, 0),
        ArrowUp: () => view.move(0, -height / 8), ArrowDown: () => view.move(0, height / 8),
      }[event.key];
      if (act) { event.preventDefault(); act(); }
    });
    return node;
  }

  // What lies under the pointer: the prediction, the ground truth, or both.
  function point(event) {
    const found = document.elementsFromPoint(event.clientX, event.clientY)
      .filter((node) => node.cell).slice(0, 4);
    tip.hidden = !found.length;
    if (!found.length) return;
    tip.replaceChildren(...found.map(({ cell }) => {
      const words = [`${cell.kind}: ${data.classes[cell.label]}`];
      if (cell.score !== undefined) words.push(`score ${cell.score.toFixed(2)}`);
      if (cell.iou !== null) words.push(`IoU ${cell.iou.toFixed(2)}`);
      words.push(data.outcomes[cell.outcome]);
      return make("div", {}, words.join(" · "));
    }));
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.min(event.clientX + 14, innerWidth - width - 8)}px`;
    tip.style.top = `${event.clientY + 18 + height > innerHeight ? event.clientY - height - 10 : event.clientY + 18}px`;
  }

  function fill(card) {
    if (card.filled) return;
    card.filled = true;
    const image = card.image;
    const view = new View(image.width, image.height);
    card.view = view;
    const tools = make("div", { class: "tools" });
    for (const [text, label, act] of [
      ["−", "Zoom out", () => view.zoom(1 / 1.5)],
      ["+", "Zoom in", () => view.zoom(1.5)],
      ["⟲", "Whole image", () => view.reset()],
      ["⤢", "Larger or smaller", () => card.classList.toggle("wide")],
    ]) {
      const button = make("button", { type: "button", "aria-label": `${label}: ${image.name}`, title: label }, text);
      button.addEventListener("click", act);
      tools.append(button);
    }
    card.querySelector("header").append(tools);
    const stages = card.querySelector(".stages");
    stages.replaceChildren(...data.runs.map((name, run) => {
      const figures = make("p", { class: "figures" }, image.runs[run].figures);
      if (data.runs.length > 1) figures.prepend(make("b", {}, name), " · ");
      return make("figure", {}, stage(image, run, view), figures);
    }));
  }

  // A picture is made when it comes near the window.
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
  // A browser may keep the state of the controls over a reload.
  gallery.querySelector("form").reset();
})();
