// Starts Swagger UI on the page /docs. A file of its own, because the page's policy forbids inline scripts.
"use strict";

// Optional parts of a form stay empty, and empty parts are not sent, so that a form can be sent with its files alone.
const emptyOptionalParts = () => ({
  wrapComponents: {
    ParameterIncludeEmpty: (Original, { React }) => (properties) =>
      React.createElement(Original, {
        ...properties,
        isIncludedOptions: { ...properties.isIncludedOptions, defaultValue: false },
      }),
  },
  afterLoad(system) {
    const getSample = system.fn.getSampleSchema;
    system.fn.getSampleSchema = (schema, ...others) =>
      schema?.get?.("type") === "array" ? [] : getSample(schema, ...others);
  },
});

window.ui = window.SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  plugins: [emptyOptionalParts],
  deepLinking: true, // an operation has an address: /docs#/alignments/create_alignment
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  filter: true,
  tryItOutEnabled: true,
  validatorUrl: null, // nothing is sent to another site
});
