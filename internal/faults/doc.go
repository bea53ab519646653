// Package faults proves what the token server promises when things go wrong. It
// has no code but its tests: they build the program, run it as a child process
// against the stand-ins of Auth0 and IMS, over TLS, and break one thing at a
// time.
//
//	go test ./internal/faults                             herds, nonsense, attacks, restarts: 15 s
//	go test -tags long -timeout 20m ./internal/faults     with outages and renewals in real time: 2 min
//	go test -tags soak -timeout 20m -run Soak ./internal/faults   mixed load, faults coming and going: 10 min
//
// Whatever a test is about, at its end the whole log of every server that it ran
// is held against all that no log may show: the client secret, iTwin tokens,
// callers' tokens, a user's name and e-mail address, what upstream said in its
// errors. Every line must be one line of the log's format, in printable ASCII, and
// tell of no panic. Every answer is held against the same secrets, and every 200
// must carry a token that IMS issued and that still lives.
package faults
