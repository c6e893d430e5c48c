// Browsers start no worker from a page that was opened from disk; there the search runs in a hidden frame, which answers as a worker would.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.waiting = [];
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.srcdoc = `<script src="${url}"><\/script>`;
      document.body.append(this.frame);
      this.frame.addEventListener("load", () => {
        const within = this.frame.contentWindow;
        within.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
        within.importScripts = (...scripts) => Promise.all(scripts.map((script) => added(within.document, script)));
        this.post = (data) => within.dispatchEvent(new MessageEvent("message", { data }));
        this.waiting.forEach(this.post);
      });
    }

    postMessage(data) {
      this.post ? this.post(data) : this.waiting.push(data);
    }

    terminate() {
      this.frame.remove();
    }
  };
}

function added(page, url) {
  return new Promise((resolve, reject) => {
    const script = page.createElement("script");
    Object.assign(script, { src: url, onload: resolve, onerror: reject });
    page.head.append(script);
  });
}
