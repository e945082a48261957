// Show the documentation of the endpoints, in the page /docs.

SwaggerUIBundle({ url: "openapi.json", dom_id: "#endpoints", deepLinking: true });
