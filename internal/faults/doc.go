// Package faults tests the token server as a program, during outages, attacks and
// crashes. It has no code but its tests: they build the program, run it as a child
// process with the stand-ins of Auth0 and IMS, over TLS, and break one thing at a
// time.
//
//	go test ./internal/faults                                     10 s
//	go test -tags long -timeout 20m ./internal/faults             outages and attacks in real time, memory: 2 min
//	go test -tags soak -timeout 20m -run Soak ./internal/faults   mixed load with faults that come and go: 10 min
//
// At its end, each test searches the whole log of each process for what no log may
// show: the client secret, iTwin tokens, user tokens, a user's name and e-mail
// address, upstream's error texts. Each answer is searched for the same secrets, and
// each 200 must carry a valid token of IMS.
package faults
