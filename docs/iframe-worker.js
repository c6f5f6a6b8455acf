// In pages that are opened from a disk browsers start no Worker: the site's search runs in a hidden
// frame instead, which is spoken to by the same messages.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const { contentWindow: inner, contentDocument: page } = frame;
      addEventListener("message", ({ source, data }) => {
        if (source === inner) this.dispatchEvent(new MessageEvent("message", { data }));
      });
      page.open();
      this.ready = new Promise((resolve) => (inner.started = () => resolve(inner)));
      page.write(`<body><script>
        postMessage = (data) => parent.postMessage(data, "*");
        importScripts = (...urls) => urls.reduce((before, src) => before.then(() =>
          new Promise((onload, onerror) => document.body.append(
            Object.assign(document.createElement("script"), { src, onload, onerror })))),
          Promise.resolve());
      <\/script><script src="${url}"><\/script><script>started()<\/script>`);
      page.close();
    }
    postMessage(data) {
      this.ready.then((inner) => inner.dispatchEvent(new MessageEvent("message", { data })));
    }
  };
}
