package tool

import (
	"encoding/json"
	"strings"
)

// Definition is the tool as chat templates show it, a function with a JSON schema of its arguments:
//
//	{"type": "function", "function": {"name": …, "description": …, "parameters": {"type": "object", "properties": {…}, "required": […]}}}
//
// Keys stand in this order, properties in that of the parameters.
func (s Spec) Definition() json.RawMessage {
	var properties, required []string
	for _, param := range s.Params {
		text := `{"type": "string"`
		if param.Doc != "" {
			text += `, "description": ` + string(encode(param.Doc))
		}
		properties = append(properties, string(encode(param.Name))+": "+text+"}")
		required = append(required, string(encode(param.Name)))
	}
	return json.RawMessage(`{"type": "function", "function": {"name": ` + string(encode(s.Name)) + `, "description": ` + string(encode(s.Doc)) +
		`, "parameters": {"type": "object", "properties": {` + strings.Join(properties, ", ") +
		`}, "required": [` + strings.Join(required, ", ") + `]}}}`)
}
