// Bare is the least that net/http can do: one route, and the same bytes back.
package main

import (
	"log"
	"net/http"
	"os"

	"itwin-token-server/bench/answer"
)

func main() {
	write, err := answer.Load(os.Getenv("ANSWER"))
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("GET /getToken", func(w http.ResponseWriter, r *http.Request) { write(w) })
	log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil))
}
