// Turns the data of a figure (script.pp-spec, written by pullpush.figures) into a plotly figure. The still stays where this
// fails: no scripts, no WebGL, print. plotly.min.js is fetched from this folder when the first such figure comes near.
(() => {
  "use strict";
  const folder = new URL(".", document.currentScript.src);
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  let plotly; // one promise for the page
  const loadPlotly = () =>
    (plotly ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = new URL("plotly.min.js", folder).href;
      script.onload = () => resolve(window.Plotly);
      script.onerror = reject;
      document.head.append(script);
    }));

  // The numbers offered under a figure, as rows of {column: text}.
  const readTable = async (figure) => {
    const uri = figure.querySelector(".pp-made a[download]").href;
    const [kind, content] = [uri.slice(0, uri.indexOf(",")), uri.slice(uri.indexOf(",") + 1)];
    let text = kind.endsWith(";base64") ? "" : decodeURIComponent(content);
    if (kind.endsWith(";base64")) {
      const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
      text = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
    }
    const [head, ...rows] = text.trim().split("\n").map((line) =>
      [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)].map(([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain),
    );
    return rows.map((row) => Object.fromEntries(head.map((name, place) => [name, row[place]])));
  };

  // A point cloud's traces and frames, from the table under it: centred, each frame as wide as the others; on the unit
  // sphere as it is. Of several panels each takes its three columns. Traces without a name, such as a wire, come last.
  const fillCloud = async (figure, spec) => {
    const { columns, start, unit } = spec.layout.meta;
    const table = await readTable(figure);
    const clouds = spec.data.filter((trace) => trace.name);
    const frames = Object.entries(columns).map(([name, axes]) => {
      const means = axes.map((axis) => (unit ? 0 : table.reduce((sum, row) => sum + Number(row[axis]), 0) / table.length));
      const reach = unit ? 1 : Math.max(...axes.flatMap((axis, i) => table.map((row) => Math.abs(row[axis] - means[i])))) || 1;
      const data = clouds.map((trace) => {
        const rows = table.filter((row) => row.class === trace.name);
        const skip = 3 * (trace.meta?.panel ?? 0);
        const own = axes.slice(skip, skip + 3);
        return Object.fromEntries(own.map((axis, i) => ["xyz"[i], rows.map((row) => (row[axis] - means[skip + i]) / reach)]));
      });
      return { name, data };
    });
    const first = frames.find(({ name }) => name === start);
    clouds.forEach((trace, i) => {
      Object.assign(trace, first.data[i]);
      trace.customdata = table.filter((row) => row.class === trace.name).map((row) => Number(row.point));
    });
    spec.frames = frames;
  };

  // A sprite that an earlier figure of the page holds is given by its id alone.
  const findSprite = ({ id }) => {
    for (const script of document.querySelectorAll("script.pp-spec")) {
      const sprite = JSON.parse(script.textContent).layout?.meta?.sprite;
      if (sprite?.id === id && sprite.src) return sprite;
    }
  };

  const hasWebGL = () => {
    const canvas = document.createElement("canvas");
    return Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl"));
  };

  const add = (parent, tag, properties = {}) => {
    const node = Object.assign(document.createElement(tag), properties);
    parent.append(node);
    return node;
  };

  // ------------------------------------------------------------------------------------------------------------ appearance

  const scenesOf = (layout) => Object.keys(layout).filter((key) => /^scene\d*$/.test(key));

  const themed = () => {
    const ink = css("--pp-ink"), grid = css("--pp-grid");
    const axis = { color: ink, gridcolor: grid, zerolinecolor: grid, linecolor: grid };
    return { ink, grid, axis };
  };

  const dress = (layout, spec) => {
    const { ink, axis } = themed();
    const merged = { ...layout };
    merged.paper_bgcolor = merged.plot_bgcolor = "rgba(0,0,0,0)";
    merged.font = { family: getComputedStyle(document.body).fontFamily, color: ink, size: 13, ...layout.font };
    merged.hoverlabel = { bgcolor: css("--pp-paper"), bordercolor: css("--pp-grid"), font: { color: ink } };
    merged.margin = { l: 8, r: 8, t: 8, b: 8, ...layout.margin };
    merged.showlegend = false; // ours can be reached with the keyboard
    merged.hovermode = layout.hovermode ?? "closest";
    if (!layout.scene && matchMedia("(pointer: coarse)").matches) merged.dragmode = false; // a finger scrolls the page
    for (const name of spec.data.some((trace) => trace.type?.endsWith("3d")) ? [] : ["xaxis", "yaxis"])
      merged[name] = { automargin: true, ...axis, ...layout[name] };
    for (const scene of scenesOf(layout)) {
      merged[scene] = { bgcolor: layout.meta?.unit ? css("--pp-paper") : "rgba(0,0,0,0)", ...layout[scene] };
      for (const name of ["xaxis", "yaxis", "zaxis"])
        merged[scene][name] = { ...axis, showbackground: false, showticklabels: false, showspikes: false, ...layout[scene][name] };
    }
    return merged;
  };

  // Traces in a colour of the page: {"tint": "grid"}.
  const tint = (spec) => {
    for (const trace of spec.data) if (trace.meta?.tint) (trace.line ?? trace).color = css(`--pp-${trace.meta.tint}`);
  };

  const SHAPES = {
    circle: "M8 2a6 6 0 1 0 .01 0z", square: "M3 3h10v10H3z", diamond: "M8 1l6 7-6 7-6-7z", cross: "M6 2h4v4h4v4h-4v4H6v-4H2V6h4z",
    x: "M4 2l4 4 4-4 2 2-4 4 4 4-2 2-4-4-4 4-2-2 4-4-4-4z", "triangle-up": "M8 2l7 12H1z", "triangle-down": "M8 14L1 2h14z",
    "triangle-left": "M2 8l12-7v14z", pentagon: "M8 1l7 5-2.6 8.5H3.6L1 6z", star: "M8 1l2 5h5l-4 3.5L12.5 15 8 11.5 3.5 15 5 9.5 1 6h5z",
  };

  // ---------------------------------------------------------------------------------------------------------------- controls

  const legend = (panel, plot, spec, Plotly) => {
    const named = spec.data.filter((trace) => trace.name && trace.showlegend !== false);
    if (named.length < 2) return;
    const list = add(panel, "div", { className: "pp-legend", role: "group", ariaLabel: "Show or hide" });
    for (const trace of named) {
      const button = add(list, "button", { type: "button", ariaPressed: "true" });
      const symbol = String(trace.marker?.symbol ?? "circle");
      const open = symbol.endsWith("-open");
      const path = SHAPES[symbol.replace("-open", "")] ?? SHAPES.circle;
      const shade = trace.marker?.color ?? trace.line?.color ?? "currentColor";
      button.innerHTML =
        `<svg viewBox="0 0 16 16" aria-hidden="true"><path d="${path}" ` +
        (open ? `fill="none" stroke="${shade}" stroke-width="2"` : `fill="${shade}"`) + `/></svg>`;
      add(button, "span", { textContent: trace.name });
      button.addEventListener("click", () => {
        const shown = button.ariaPressed !== "true";
        button.ariaPressed = String(shown);
        const same = spec.data.flatMap(({ name }, place) => (name === trace.name ? place : [])); // one in each panel
        Plotly.restyle(plot, { visible: shown }, same);
      });
    }
  };

  const slider = (panel, plot, spec, Plotly) => {
    const frames = spec.frames ?? [];
    if (frames.length < 2) return;
    const meta = spec.layout.meta ?? {};
    const solid = spec.data.some((trace) => trace.type?.endsWith("3d") || trace.type?.endsWith("gl"));
    const label = add(panel, "label", { className: "pp-slider" });
    add(label, "span", { textContent: meta.slider ?? "frame" });
    const start = Math.max(0, frames.findIndex((frame) => frame.name === meta.start));
    const range = add(label, "input", { type: "range", min: 0, max: frames.length - 1, step: 1, value: start });
    const value = add(label, "output", { textContent: frames[start].name });
    range.setAttribute("aria-valuetext", frames[start].name);
    range.addEventListener("input", () => {
      const frame = frames[range.value];
      value.textContent = frame.name;
      range.setAttribute("aria-valuetext", frame.name);
      if (solid) {
        const keys = new Set(frame.data.flatMap(Object.keys));
        const update = Object.fromEntries([...keys].map((key) => [key, frame.data.map((trace) => trace[key])]));
        Plotly.restyle(plot, update, [...frame.data.keys()]);
        return;
      }
      const duration = calm.matches ? 0 : 500;
      Plotly.animate(plot, { data: frame.data, traces: frame.data.map((_, index) => index) }, {
        mode: "immediate", transition: { duration, easing: "cubic-in-out" }, frame: { duration, redraw: false },
      });
    });
  };

  const tooltip = (live, plot, spec) => {
    const sprite = spec.layout.meta?.sprite && findSprite(spec.layout.meta.sprite);
    if (!sprite) return;
    const tip = add(live, "div", { className: "pp-tip", hidden: true });
    const picture = add(tip, "div", { className: "pp-tip-image" });
    const text = add(tip, "span");
    picture.style.backgroundImage = `url(${sprite.src})`;
    picture.style.backgroundSize = `${sprite.columns * 100}% ${sprite.rows * 100}%`;
    let pointer; // plotly does not say where it is over a solid cloud
    for (const kind of ["pointermove", "pointerdown"]) live.addEventListener(kind, (event) => (pointer = event), true);
    plot.on("plotly_hover", ({ points: [point], event = pointer }) => {
      const index = point.customdata;
      const share = (place, count) => (count > 1 ? (100 * place) / (count - 1) : 0);
      picture.style.backgroundPosition =
        `${share(index % sprite.columns, sprite.columns)}% ${share(Math.floor(index / sprite.columns), sprite.rows)}%`;
      text.textContent = point.data.name;
      tip.hidden = false;
      const box = live.getBoundingClientRect();
      const x = Math.min(Math.max(event.clientX - box.left - 40, 0), box.width - 88);
      const y = event.clientY - box.top;
      tip.style.left = `${x}px`;
      tip.style.top = `${y > 130 ? y - 122 : y + 18}px`;
    });
    plot.on("plotly_unhover", () => (tip.hidden = true));
  };

  // The scenes of a figure are seen from one place, which `radians` move around the upright axis and up.
  const turn = (plot, scenes, [around, up], Plotly) => {
    const eye = plot._fullLayout[scenes[0]].camera.eye;
    const radius = Math.hypot(eye.x, eye.y, eye.z);
    const angle = Math.atan2(eye.y, eye.x) + around;
    const rise = Math.min(1.5, Math.max(-1.5, Math.asin(eye.z / radius) + up));
    const flat = radius * Math.cos(rise);
    const moved = { x: flat * Math.cos(angle), y: flat * Math.sin(angle), z: radius * Math.sin(rise) };
    return Plotly.relayout(plot, Object.fromEntries(scenes.map((scene) => [`${scene}.camera.eye`, moved])));
  };

  const turnWithArrows = (plot, scenes, Plotly) => {
    Object.assign(plot, { tabIndex: 0, ariaLabel: "Points in space, turned with the arrow keys" });
    plot.setAttribute("role", "application"); // a screen reader leaves the arrow keys to it
    plot.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, 0.15], ArrowDown: [0, -0.15] }[event.key];
      if (!step) return;
      event.preventDefault();
      turn(plot, scenes, step, Plotly);
    });
  };

  // Turning one scene turns the others. By the pointer's events: plotly reports a mouse, but not a finger.
  const turnTogether = (plot, scenes, Plotly) => {
    const inside = (scene) => plot._fullLayout[scene]._scene;
    let held; // the scene that is being turned
    const follow = () => {
      if (!held) return;
      const camera = inside(held).getCamera();
      for (const scene of scenes) if (scene !== held) inside(scene).setViewport({ ...plot._fullLayout[scene], camera });
      requestAnimationFrame(follow);
    };
    const hold = ({ target }) => {
      held = scenes.find((scene) => inside(scene).container.contains(target));
      follow();
    };
    const release = () => {
      if (!held) return;
      const camera = inside(held).getCamera();
      held = undefined;
      Plotly.relayout(plot, Object.fromEntries(scenes.map((scene) => [`${scene}.camera`, camera])));
    };
    for (const kind of ["mousedown", "touchstart"]) plot.addEventListener(kind, hold, { passive: true });
    for (const kind of ["mouseup", "touchend", "touchcancel"]) document.addEventListener(kind, release);
    plot.addEventListener("wheel", (event) => event.stopPropagation(), { capture: true }); // scrolls the page instead of zooming
  };

  // Turns slowly while it is in view and not pointed at, until the reader touches it.
  const turnByItself = (live, hint, plot, scenes, Plotly) => {
    if (calm.matches) return;
    const button = add(hint, "button", { type: "button", className: "pp-stop", textContent: "Stop turning" });
    let [seen, last] = [false, 0];
    const watch = new IntersectionObserver(([entry]) => (seen = entry.isIntersecting));
    watch.observe(plot);
    const step = async (now) => {
      if (!button.isConnected) return watch.disconnect();
      if (seen && !plot.matches(":hover")) await turn(plot, scenes, [Math.min(now - last, 100) * 1e-4, 0], Plotly);
      last = now;
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
    for (const kind of ["pointerdown", "keydown"]) live.addEventListener(kind, () => button.remove(), { once: true });
    calm.addEventListener("change", () => button.remove());
  };

  // ------------------------------------------------------------------------------------------------------------------- figure

  const drawn = [];

  const draw = async (figure) => {
    const live = figure.querySelector(".pp-live");
    const spec = JSON.parse(figure.querySelector("script.pp-spec").textContent);
    spec.layout ??= {};
    const solid = spec.data.some((trace) => trace.type?.endsWith("3d") || trace.type?.endsWith("gl"));
    if (solid && !hasWebGL()) return;
    const Plotly = await loadPlotly();
    if (spec.layout.meta?.columns) await fillCloud(figure, spec);
    if (spec.layout.meta?.sprite) spec.data.forEach((trace) => (trace.hoverinfo ??= "none"));
    live.hidden = false;
    live.setAttribute("role", "group");
    live.setAttribute("aria-label", live.dataset.label);
    const top = add(live, "div", { className: "pp-controls" });
    const plot = add(live, "div", { className: "pp-plot" });
    plot.style.aspectRatio = live.dataset.aspect;
    if (scenesOf(spec.layout).length > 1) plot.style.minHeight = 0;
    tint(spec);
    await Plotly.newPlot(plot, spec.data, dress(spec.layout, spec), { displayModeBar: false, responsive: true });
    slider(top, plot, spec, Plotly);
    legend(live, plot, spec, Plotly);
    tooltip(live, plot, spec);
    const scenes = scenesOf(spec.layout);
    if (scenes.length) turnWithArrows(plot, scenes, Plotly);
    const hint = solid && add(live, "p", { className: "pp-hint", textContent: "Drag to turn, or focus it and use the arrow keys. " });
    if (spec.layout.meta?.unit) {
      turnTogether(plot, scenes, Plotly);
      turnByItself(live, hint, plot, scenes, Plotly);
    }
    figure.classList.add("pp-drawn");
    drawn.push(() => {
      tint(spec); // plotly holds these very traces
      const turned = scenes.map((scene) => [scene, { ...spec.layout[scene], camera: plot.layout[scene].camera }]);
      Plotly.relayout(plot, dress({ ...spec.layout, ...Object.fromEntries(turned) }, spec));
    });
  };

  // ---------------------------------------------------------------------------------------------------------------- the page

  // The computed spheres (pullpush.idea.html) stand still until this moves them: what moves by itself needs a way to stop it.
  const moveIdea = (spheres) => {
    const bar = document.createElement("div");
    bar.className = "pp-play";
    spheres.after(bar);
    const button = add(bar, "button", { type: "button" });
    const play = (wanted) => {
      if (wanted) spheres.classList.add("pp-moving");
      spheres.classList.toggle("pp-paused", !wanted);
      button.textContent = wanted ? "Pause" : "Play";
      button.classList.toggle("pp-playing", wanted);
    };
    button.addEventListener("click", () => play(spheres.matches(".pp-paused")));
    calm.addEventListener("change", () => calm.matches && play(false));
    play(!calm.matches);
  };

  // A fold is called by what is written on it, and the one without words by the page that its list belongs to.
  const nameFolds = () => {
    for (const fold of document.querySelectorAll("details.hide > summary")) fold.removeAttribute("aria-label");
    for (const fold of document.querySelectorAll(".bd-links .has-children > details > summary"))
      fold.ariaLabel = `Pages under ${fold.parentElement.parentElement.querySelector("a").textContent}`;
  };

  // The entries of a list of works are its items, by the role that replaced docutils' one.
  const nameWorks = () => {
    for (const work of document.querySelectorAll(".citation-list > .citation")) work.role = "listitem";
  };

  // The theme takes the focus from the button that opens the contents on a phone, and so cannot give it back.
  const giveFocusBack = () => {
    for (const side of ["primary", "secondary"])
      document
        .getElementById(`pst-${side}-sidebar-modal`)
        ?.addEventListener("close", () => document.querySelector(`.${side}-toggle`)?.focus());
  };

  // What scrolls sideways is reached by the keyboard, for as long as it does. The theme sees to code and tables.
  const reachWhatScrolls = () => {
    const watch = new ResizeObserver((changes) => {
      for (const { target } of changes) {
        if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
        else target.removeAttribute("tabindex");
      }
    });
    const observe = () => document.querySelectorAll(".pp-stills, mjx-container[display]").forEach((box) => watch.observe(box));
    observe();
    window.MathJax?.startup?.promise?.then(observe);
  };

  // Paper is light, and shows where a link leads: the style sheet prints data-address.
  const readyForPrint = () => {
    const { dataset } = document.documentElement;
    let shown;
    addEventListener("beforeprint", () => ([shown, dataset.theme] = [dataset.theme, "light"]));
    addEventListener("afterprint", () => (dataset.theme = shown));
    for (const link of document.querySelectorAll(".bd-article a.external[href^=http]"))
      if (!/^(https?:|arXiv)/.test(link.textContent)) link.dataset.address = link.getAttribute("href").replace(/^https?:\/\//, "");
  };

  const start = () => {
    document.querySelectorAll(".pp-idea:has(.pp-move)").forEach(moveIdea);
    nameFolds();
    nameWorks();
    giveFocusBack();
    reachWhatScrolls();
    readyForPrint();
    const figures = [...document.querySelectorAll("figure.pp-figure")].filter((figure) => figure.querySelector(".pp-live"));
    const watch = new IntersectionObserver(
      (entries) => {
        for (const { isIntersecting, target } of entries) {
          if (!isIntersecting) continue;
          watch.unobserve(target);
          draw(target).catch((error) => console.error(`Figure ${target.id} stays still: ${error}`));
        }
      },
      { rootMargin: "800px" },
    );
    figures.forEach((figure) => watch.observe(figure));
    new MutationObserver(() => drawn.forEach((dressAgain) => dressAgain())).observe(document.documentElement, {
      attributeFilter: ["data-theme"],
    });
  };

  document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", start) : start();
})();
