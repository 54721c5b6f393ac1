window.MathJax = {
  tex: {
    inlineMath: [["\\(", "\\)"]],
    displayMath: [["\\[", "\\]"]],
    processEscapes: true,
    processEnvironments: true,
  },
  options: {
    ignoreHtmlClass: ".*|",
    processHtmlClass: "arithmatex",
  },
  startup: {
    pageReady: () =>
      MathJax.startup.defaultPageReady().then(() => {
        for (const formula of document.querySelectorAll("span.arithmatex mjx-container")) {
          const around = formula.closest("p, li, td, th, h1, h2, h3, h4");
          if (around && formula.getBoundingClientRect().width > around.clientWidth) {
            formula.classList.add("wide");
          }
        }
      }),
  },
};
