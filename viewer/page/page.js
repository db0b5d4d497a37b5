// The page that `sparse3d.viewer.static_page` writes. Everything it needs stands in the page itself, compressed, so that it
// opens from a disk, where a browser reads no second file. Modules become blob: addresses for the same reason.
"use strict";

async function unpacked(id) {
  const text = document.getElementById(id).textContent;
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

async function moduleAddress(id, replaced) {
  let source = new TextDecoder().decode(await unpacked(id));
  for (const [name, address] of Object.entries(replaced)) {
    source = source.replaceAll(`from"${name}"`, `from"${address}"`).replaceAll(`from "${name}"`, `from "${address}"`);
    source = source.replaceAll(`from '${name}'`, `from '${address}'`);
  }
  return URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
}

async function modules() {
  const core = await moduleAddress("three.core.min.js", {});
  const three = await moduleAddress("three.module.min.js", { "./three.core.min.js": core });
  const pass = await moduleAddress("Pass.js", { three });
  const controls = await moduleAddress("OrbitControls.js", { three });
  const spark = await moduleAddress("spark.module.min.js", { three, "three/addons/postprocessing/Pass.js": pass });
  return [await import(three), (await import(controls)).OrbitControls, (await import(pass)).FullScreenQuad, await import(spark)];
}

async function start() {
  const said = document.getElementById("said");
  const scene = JSON.parse(document.getElementById("scene").textContent);
  const element = (id) => document.getElementById(id);
  if (new URLSearchParams(location.search).has("embed")) document.body.classList.add("embed");

  const [THREE, OrbitControls, FullScreenQuad, SPARK] = await modules();
  THREE.ColorManagement.enabled = false; // Gaussians are optimized and blended in sRGB
  THREE.ColorManagement.workingColorSpace = THREE.SRGBColorSpace;
  const renderer = new THREE.WebGLRenderer({ antialias: false, preserveDrawingBuffer: true });
  renderer.setPixelRatio(Math.min(window.devicePixelRatio, 2));
  document.body.prepend(renderer.domElement);
  const world = new THREE.Scene();
  const camera = new THREE.PerspectiveCamera(50, 1, scene.near, 1000 * scene.radius);
  let stale = true;
  const controls = new OrbitControls(camera, renderer.domElement);
  controls.addEventListener("change", () => (stale = true));

  // the dilation by 0.3 pixels squared, with or without its loss of opacity: as the scene was optimized
  const blur = scene.antialiased ? { preBlurAmount: 0, blurAmount: 0.3 } : { preBlurAmount: 0.3, blurAmount: 0 };
  const spark = new SPARK.SparkRenderer({
    renderer, sortRadial: false, maxStdDev: 3, maxPixelRadius: 2048, minAlpha: 1 / 255, accumExtSplats: true, enableLod: false, ...blur,
    onDirty: () => (stale = true),
  });
  world.add(spark);
  const words = new Uint32Array(await unpacked("splats"));
  const size = words.length / scene.arrays;
  const arrays = Array.from({ length: scene.arrays }, (_, index) => words.slice(index * size, (index + 1) * size));
  const extra = {};
  ["sh1", "sh2", "sh3a", "sh3b"].slice(0, scene.arrays - 2).forEach((name, index) => (extra[name] = arrays[index + 2]));
  const splats = new SPARK.ExtSplats({ extArrays: [arrays[0], arrays[1]], numSplats: scene.count, extra });
  const mesh = new SPARK.SplatMesh({ extSplats: splats, lod: false });
  await mesh.initialized;
  mesh.maxSh = scene.sh_degree;
  world.add(mesh);

  function showBackground(colour) {
    renderer.setClearColor(new THREE.Color(colour), 1);
    stale = true;
  }

  // Many faint Gaussians lie over each other; in 8 bits the rounding of each adds up to a visible error, hence half floats
  const target = new THREE.WebGLRenderTarget(1, 1, { type: THREE.HalfFloatType });
  const shown = new FullScreenQuad(new THREE.RawShaderMaterial({
    glslVersion: THREE.GLSL3, depthTest: false, depthWrite: false, uniforms: { picture: { value: target.texture } },
    vertexShader: "in vec3 position; void main() { gl_Position = vec4(position.xy, 0.0, 1.0); }",
    fragmentShader:
      "precision highp float; uniform sampler2D picture; out vec4 colour;" +
      "void main() { colour = vec4(texelFetch(picture, ivec2(gl_FragCoord.xy), 0).rgb, 1.0); }",
  }));

  function resize() {
    renderer.setSize(window.innerWidth, window.innerHeight, false);
    target.setSize(renderer.domElement.width, renderer.domElement.height);
    camera.aspect = window.innerWidth / window.innerHeight;
    camera.updateProjectionMatrix();
    stale = true;
  }

  // camera to world, row by row, OpenCV axes; the browser's cameras look along -z with y up
  function pose(view) {
    const m = view.c2w;
    const matrix = new THREE.Matrix4().set(
      m[0], -m[1], -m[2], m[3], m[4], -m[5], -m[6], m[7], m[8], -m[9], -m[10], m[11], 0, 0, 0, 1);
    const position = new THREE.Vector3(), turn = new THREE.Quaternion(), ones = new THREE.Vector3();
    matrix.decompose(position, turn, ones);
    return { position, turn, fov: view.fov_deg };
  }

  function stand({ position, turn, fov }) {
    camera.position.copy(position);
    camera.quaternion.copy(turn);
    camera.fov = fov;
    camera.updateProjectionMatrix();
    stale = true;
  }

  // orbiting turns about the axis that is up in the picture, as near to the scene's as it can be without a jump
  function orbitFrom(view) {
    camera.up.set(...view.up);
    controls.target.set(...view.target);
    controls.update();
  }

  let flight = 0;
  function fly(index, seconds) {
    const view = scene.views[index];
    element("view").value = index;
    const turn = ++flight;
    const from = { position: camera.position.clone(), turn: camera.quaternion.clone(), fov: camera.fov };
    const to = pose(view);
    const began = performance.now();
    return new Promise((done) => {
      function step(now) {
        if (turn !== flight) return done(false);
        const share = seconds > 0 ? Math.min(1, Math.max(0, (now - began) / 1000 / seconds)) : 1;
        const eased = share * share * (3 - 2 * share);
        stand({
          position: from.position.clone().lerp(to.position, eased),
          turn: from.turn.clone().slerp(to.turn, eased),
          fov: from.fov + (to.fov - from.fov) * eased,
        });
        if (share < 1) return requestAnimationFrame(step);
        stand(to);
        orbitFrom(view);
        done(true);
      }
      step(performance.now());
    });
  }

  element("title").textContent = scene.title;
  element("count").textContent = `${scene.count.toLocaleString()} Gaussians`;
  scene.views.forEach((view, index) => element("view").add(new Option(view.name + (view.generated ? " (drawn)" : ""), index)));
  for (let degree = scene.sh_degree; degree > 0; degree--) element("sh").add(new Option(`view-dependent (${degree})`, degree));
  element("sh").add(new Option("plain", 0));
  element("sh").onchange = () => {
    mesh.maxSh = Number(element("sh").value);
    mesh.updateGenerator();
    stale = true;
  };
  element("background").value = scene.background;
  element("background").oninput = () => showBackground(element("background").value);
  element("view").onchange = () => fly(Number(element("view").value), 0.8);
  const beside = (step) => {
    const count = scene.views.length;
    return (Number(element("view").value) + step + count) % count;
  };
  element("before").onclick = () => fly(beside(-1), 0.8);
  element("after").onclick = () => fly(beside(1), 0.8);
  let playing = false;
  element("play").onclick = async () => {
    playing = !playing;
    element("play").textContent = playing ? "Stop" : "Play";
    while (playing && (await fly(beside(1), 2.5)));
    playing = false;
    element("play").textContent = "Play";
  };
  renderer.domElement.addEventListener("pointerdown", () => { playing = false; flight++; });

  showBackground(scene.background);
  window.addEventListener("resize", resize);
  resize();
  fly(0, 0);
  let frames = 0;
  renderer.setAnimationLoop(() => {
    if (!stale) return;
    stale = false;
    renderer.setRenderTarget(target);
    renderer.render(world, camera);
    renderer.setRenderTarget(null);
    shown.render(renderer);
    document.body.dataset.frames = ++frames;
  });
  said.textContent = "";
  document.body.dataset.ready = "yes";
}

start().catch((error) => {
  document.getElementById("said").textContent =
    `This page could not be drawn: ${error.message || error}. It needs WebGL2 and a browser of 2023 or newer.`;
  document.body.dataset.ready = "failed";
  throw error;
});
