// An image with outlines, to zoom, to move and to point at.
const viewer = (() => {
  const SVG = "http://www.w3.org/2000/svg";

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

  // An SVG as a stage of a view; the tip follows the pointer.
  function stage(svg, view, name, tip) {
    view.stages.push(svg);
    const node = make("div", { class: "stage", tabindex: 0, role: "group", "aria-label": `${name}: image, zoom with + and -` }, svg);
    node.addEventListener("wheel", (event) => {
      // Scrolling over the images must not end in one of them.
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
        tip.hide();
      } else {
        tip.point(event);
      }
    });
    for (const end of ["pointerup", "pointercancel"]) node.addEventListener(end, () => { from = null; });
    node.addEventListener("pointerleave", () => tip.hide());
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

  // The buttons of a view, and more of them: [text, title, action].
  function tools(view, name, more = []) {
    const bar = make("div", { class: "tools" });
    for (const [text, title, act] of [
      ["−", "Zoom out", () => view.zoom(1 / 1.5)],
      ["+", "Zoom in", () => view.zoom(1.5)],
      ["⟲", "Whole image", () => view.reset()],
      ...more,
    ]) {
      const button = make("button", { type: "button", "aria-label": `${title}: ${name}`, title }, text);
      button.addEventListener("click", act);
      bar.append(button);
    }
    return bar;
  }

  // What lies under the pointer: `describe` makes a line of what a node has as `cell`.
  class Tip {
    constructor(node, describe) {
      this.node = node;
      this.describe = describe;
    }

    hide() { this.node.hidden = true; }

    point(event) {
      const found = document.elementsFromPoint(event.clientX, event.clientY)
        .filter((node) => node.cell).slice(0, 4);
      this.node.hidden = !found.length;
      if (!found.length) return;
      this.node.replaceChildren(...found.map(({ cell }) => make("div", {}, this.describe(cell))));
      const { width, height } = this.node.getBoundingClientRect();
      this.node.style.left = `${Math.min(event.clientX + 14, innerWidth - width - 8)}px`;
      this.node.style.top = `${event.clientY + 18 + height > innerHeight ? event.clientY - height - 10 : event.clientY + 18}px`;
    }
  }

  return { make, makeSVG, View, stage, tools, Tip };
})();
