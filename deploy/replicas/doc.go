// Package replicas proves that several servers behind nginx are one server to their callers.
//
// Three processes behind Debian's nginx, with the configuration in deploy/nginx.conf, are asked for
// 200 tokens a second while one is killed, all are restarted in turn, IMS is down for 20 s and Auth0
// changes its signing key. No caller may notice. It takes a minute and a half:
//
//	go test -tags replicas ./deploy/replicas      (or: make replicas)
package replicas
