// Package faults tests the token server as a program, during outages, attacks and
// crashes. It has no code but its tests: they build the program, run it as a child
// process with the stand-ins of Auth0 and IMS, over TLS, and break one thing at a
// time.
//
//	go test ./internal/faults
//	go test -tags long -timeout 20m ./internal/faults
//	go test -tags soak -timeout 20m -run Soak ./internal/faults
//
// The first takes 25 s. With the tag long, outages and attacks last as long as real
// ones, and memory is measured: 2 min. With the tag soak, a mixed load meets faults
// that come and go: 10 min.
//
// At its end, each test searches the whole log of each process for what no log may
// show: the client secret, iTwin tokens, user tokens, a user's name and e-mail
// address, upstream's error texts. Each answer is searched for the same secrets, and
// each 200 must carry a valid token of IMS.
package faults
