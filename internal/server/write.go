package server

import (
	"encoding/json"
	"net/http"
)

// Header values that never change are made once, not for each answer.
var (
	textType = []string{"text/plain; charset=utf-8"}
	jsonType = []string{"application/json"}
)

// WriteText writes an answer of plain text.
func WriteText(w http.ResponseWriter, status int, body []byte) {
	w.Header()["Content-Type"] = textType
	w.WriteHeader(status)
	w.Write(body)
}

// WriteJSON writes an answer of strings and numbers as JSON.
func WriteJSON(w http.ResponseWriter, status int, v map[string]any) {
	body, _ := json.Marshal(v) // cannot fail for strings and numbers
	w.Header()["Content-Type"] = jsonType
	w.WriteHeader(status)
	w.Write(body)
}
