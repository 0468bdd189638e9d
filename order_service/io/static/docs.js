"use strict";

// Swagger UI knows a dark look, but does not ask the system for it.
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#api",
  deepLinking: true,
  displayRequestDuration: true,
  operationsSorter: (a, b) => b.get("method").localeCompare(a.get("method")), // first place an order, then look at it
  tryItOutEnabled: true,
  validatorUrl: null, // it would send the description to a server elsewhere
});
