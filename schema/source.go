package schema

// modulePath is what the schema is called as a CUE module.
const modulePath = "swage.internal/schema"
