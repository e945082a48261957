// Show the documentation of the endpoints, in the page /docs.

// A script before this one defines it.
window.SwaggerUIBundle({ url: "openapi.json", dom_id: "#endpoints", deepLinking: true });
