package main

import (
	"bytes"
	"fmt"
	"os"
	"time"
)

// life is one target process under one workload, from its start to its end. A
// request of the world's list is sent to it at most once, so that no distinct
// token is ever seen twice by one process.
type life struct {
	sample
	p       *process
	t       target
	pool    pool
	request func(int) []byte
	sent    int
	cpuThen time.Duration // of the process when the counting began
	waited  int           // likewise
}

// begin asks a process that listens for its first token, then opens all the
// workload's connections and warms the process up through them.
func (s sampler) begin(p *process, t target, l workload) (*life, error) {
	one := &life{p: p, t: t, sample: sample{listening: p.listening}}
	one.request = func(int) []byte { return s.world.repeated }
	if l.distinct {
		one.request = func(i int) []byte { return s.world.distinct[i] }
	}
	var err error
	if one.pool, err = dial(p.addr, 1); err != nil {
		return nil, err
	}
	if err := one.send(1); err != nil {
		return nil, err
	}
	one.firstToken = time.Since(p.started)
	time.Sleep(settle)
	if one.idle, err = resident(p.pid); err != nil {
		return nil, err
	}
	rest, err := dial(p.addr, l.conns-1)
	if err != nil {
		return nil, err
	}
	one.pool = append(one.pool, rest...)
	if err := one.send(max(warmUp, l.conns)); err != nil {
		return nil, err
	}
	time.Sleep(settle)
	one.parked, err = resident(p.pid)
	return one, err
}

func (l *life) send(n int) error {
	from := l.sent
	l.sent += n
	err := l.pool.send(n, func(i int) []byte { return l.request(from + i) }, l.t.want)
	if err != nil {
		return fmt.Errorf("%s: %w", l.t.name, err)
	}
	return nil
}

func (l *life) turn(n int) error {
	began := time.Now()
	err := l.send(n)
	l.wall += time.Since(began)
	return err
}

// before reads the process's clocks before the counted requests.
func (l *life) before() (err error) {
	if l.cpuThen, err = cpuTime(l.p.pid); err != nil {
		return err
	}
	l.waited, err = waits(l.p.pid)
	return err
}

// after reads them again, and shares the difference among n requests.
func (l *life) after(n int) error {
	cpu, err := cpuTime(l.p.pid)
	if err != nil {
		return err
	}
	waited, err := waits(l.p.pid)
	if err != nil {
		return err
	}
	l.cpu = (cpu - l.cpuThen) / time.Duration(n)
	l.waits = float64(waited-l.waited) / float64(n)
	l.peak, err = peak(l.p.pid)
	return err
}

// end stops the process, and counts the requests that its log has no line for:
// a log that drops lines under load is cheaper than it ought to be.
func (l *life) end() error {
	l.pool.close()
	l.p.stop()
	if l.t.logs == "" {
		return nil
	}
	log, err := os.ReadFile(l.p.log)
	l.unlogged = l.sent - bytes.Count(log, []byte(l.t.logs))
	return err
}
