package textenc

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"leafserve/ort"
	"leafserve/tensor"
)

// packNodes is about how many nodes a pack has where a group needs several.
// Smaller packs repeat more of what sentences share; larger ones spend more on
// attention, which grows with the square. From 128 to 384 the time a node differs
// by 10 %, both at width 192 and at 768.
const packNodes = 192

// pack is a tree of token sequences that runs as one, as packGraph has it. Nodes
// come in the order in which sorted sequences need them, so parents before
// children.
type pack struct {
	ids, positions []int    // [N]
	branches       []branch // in the order of the sorted sequences
}

// branch is one sequence of a pack.
type branch struct {
	nodes []int // by position
	texts []int // all whose sequence this is
}

// batch is token sequences to be packed.
type batch []entry

// entry is the sequence of a text, whose number is the caller's. Groups do not
// share packs, so that the results of one do not depend, to the bit, on others.
type entry struct {
	text, group int
	ids         []int // not empty
}

func (b *batch) add(text, group int, ids []int) { *b = append(*b, entry{text, group, ids}) }

// packed puts a batch, which it sorts, into packs.
func packed(b batch) []pack {
	slices.SortStableFunc(b, func(x, y entry) int {
		if d := x.group - y.group; d != 0 {
			return d
		}
		return slices.Compare(x.ids, y.ids)
	})
	var packs []pack
	for len(b) > 0 {
		n := 1
		for n < len(b) && b[n].group == b[0].group {
			n++
		}
		packs = append(packs, b[:n].split()...)
		b = b[n:]
	}
	return packs
}

// split puts one group, sorted, into packs of about the same size. Equal
// sequences stay together.
func (b batch) split() []pack {
	fresh, total := make([]int, len(b)), 0 // nodes that each adds to one tree of all
	var last []int
	for i, e := range b {
		fresh[i] = len(e.ids) - common(last, e.ids)
		total += fresh[i]
		last = e.ids
	}
	var packs []pack
	count, before := (total+packNodes-1)/packNodes, 0
	for i, e := range b {
		share := len(e.ids) - fresh[i]
		if fresh[i] > 0 && before*count/total >= len(packs) {
			packs, share = append(packs, pack{}), 0
		}
		packs[len(packs)-1].add(e, share)
		before += fresh[i]
	}
	return packs
}

// common is the length of the equal beginning.
func common(a, b []int) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// add appends a text whose sequence shares that many nodes with the last one's.
func (p *pack) add(e entry, share int) {
	var last *branch
	if n := len(p.branches); n > 0 {
		last = &p.branches[n-1]
	}
	if share == len(e.ids) { // equal to the last one
		last.texts = append(last.texts, e.text)
		return
	}
	b := branch{nodes: make([]int, 0, len(e.ids)), texts: []int{e.text}}
	if share > 0 {
		b.nodes = append(b.nodes, last.nodes[:share]...)
	}
	for position, id := range e.ids[share:] {
		b.nodes = append(b.nodes, len(p.ids))
		p.ids = append(p.ids, id)
		p.positions = append(p.positions, share+position)
	}
	p.branches = append(p.branches, b)
}

// mask is [1,N,N]: 0 for a node's ancestors and itself, else the most negative
// number.
func (p *pack) mask() tensor.Tensor {
	n := len(p.ids)
	m := tensor.New(1, n, n)
	for i := range m.Data {
		m.Data[i] = -math.MaxFloat32
	}
	done := 0 // nodes whose rows are written
	for _, b := range p.branches {
		for at, node := range b.nodes {
			if node < done {
				continue
			}
			for _, ancestor := range b.nodes[:at+1] {
				m.Data[node*n+ancestor] = 0
			}
			done = node + 1
		}
	}
	return m
}

// leaves are the last nodes of the branches.
func (p *pack) leaves() []int {
	rows := make([]int, len(p.branches))
	for i, b := range p.branches {
		rows[i] = b.nodes[len(b.nodes)-1]
	}
	return rows
}

// all are the rows of all nodes.
func (p *pack) all() []int {
	rows := make([]int, len(p.ids))
	for i := range rows {
		rows[i] = i
	}
	return rows
}

// runPacks runs packs at the same time and hands read each one's states [R,D]
// and projected [R,P] (no values without a projection) at the rows that rows
// chooses. Calls of read overlap.
func (e *Encoder) runPacks(ctx context.Context, packs []pack, rows func(*pack) []int, read func(p *pack, states, projected tensor.Tensor)) error {
	if len(packs) == 0 {
		return ctx.Err()
	}
	session, err := e.packs.get()
	if err != nil {
		return fmt.Errorf("text encoder for packs: %w", err)
	}
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.SetLimit(e.threads)
	for i := range packs {
		p := &packs[i]
		tasks.Go(func() error {
			n, want := len(p.ids), rows(p)
			out, err := session.Run(ctx, ort.Ints(p.ids, 1, n), ort.Ints(p.positions, 1, n),
				ort.Floats(p.mask()), ort.Ints(want, 1, len(want), 1))
			if err != nil {
				return fmt.Errorf("text encoder: %w", err)
			}
			for i := range out {
				out[i].Shape = out[i].Shape[1:]
			}
			projected := tensor.Tensor{}
			if e.projects {
				projected = out[1]
			}
			read(p, out[0], projected)
			return nil
		})
	}
	return tasks.Wait()
}

// lazySession is a session that is made when it is first needed. It is safe for
// concurrent use; a failure is tried again by the next call.
type lazySession struct {
	open    func() (*ort.Session, error)
	mu      sync.Mutex
	session *ort.Session
}

func (l *lazySession) get() (*ort.Session, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session == nil {
		s, err := l.open()
		if err != nil {
			return nil, err
		}
		l.session = s
	}
	return l.session, nil
}

func (l *lazySession) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session == nil {
		return nil
	}
	return l.session.Close()
}
