package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"

	"leafserve"
	"leafserve/leaftrain"
)

// history is what a run has told of itself so far.
type history struct {
	steps       []leaftrain.Metrics
	evaluations []leaftrain.Evaluation
}

// metricsLog is metrics.jsonl: an object a step, and one an evaluation.
type metricsLog struct {
	history
	file *os.File
	also io.Writer // gets each line, too; nil for none
}

// The kinds of a line.
const (
	kindStep       = "step"
	kindEvaluation = "evaluation"
)

type stepLine struct {
	Kind string `json:"kind"`
	leaftrain.Metrics
}

type evaluationLine struct {
	Kind string `json:"kind"`
	leaftrain.Evaluation
}

// openMetrics opens or starts a log as it was when a run had made some steps:
// what was told after them is dropped, for it is going to be told again.
func openMetrics(path string, steps int) (*metricsLog, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	l := &metricsLog{file: file}
	if err := l.read(steps); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return l, nil
}

// read takes in the lines up to a step and cuts off the others. An evaluation is
// made at the beginning of a step that follows.
func (l *metricsLog) read(steps int) error {
	lines := bufio.NewReader(l.file)
	size := int64(0)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break // a line that was not finished goes, too
		}
		if err != nil {
			return err
		}
		more, err := l.take(line, steps)
		if err != nil {
			return leafserve.InvalidField("out", "%s:%d is damaged: delete that line and those after it", l.file.Name(), n)
		}
		if !more {
			break
		}
		size += int64(len(line))
	}
	if err := l.file.Truncate(size); err != nil {
		return err
	}
	_, err := l.file.Seek(size, io.SeekStart)
	return err
}

// take adds a line to the history, unless it tells of what comes after steps.
func (l *metricsLog) take(line []byte, steps int) (more bool, err error) {
	var head struct {
		Kind string `json:"kind"`
		Step int    `json:"step"`
	}
	if err := json.Unmarshal(line, &head); err != nil {
		return false, err
	}
	switch {
	case head.Kind == kindStep && head.Step <= steps:
		var m leaftrain.Metrics
		err = json.Unmarshal(line, &m)
		l.steps = append(l.steps, m)
	case head.Kind == kindEvaluation && head.Step < steps:
		var e leaftrain.Evaluation
		err = json.Unmarshal(line, &e)
		l.evaluations = append(l.evaluations, e)
	default:
		return false, nil
	}
	return true, err
}

func (l *metricsLog) step(m leaftrain.Metrics) error {
	l.steps = append(l.steps, m)
	return l.write(stepLine{kindStep, m})
}

func (l *metricsLog) evaluation(e leaftrain.Evaluation) error {
	l.evaluations = append(l.evaluations, e)
	return l.write(evaluationLine{kindEvaluation, e})
}

// write appends a line in one call, so that only a crash can tear it.
func (l *metricsLog) write(line any) error {
	raw, err := json.Marshal(line)
	if err != nil {
		return err
	}
	raw = append(raw, '\n')
	if l.also != nil {
		if _, err := l.also.Write(raw); err != nil {
			return err
		}
	}
	_, err = l.file.Write(raw)
	return err
}
