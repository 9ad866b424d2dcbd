package hold

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
)

// program is what a fake command does: it reads its input, prints, and returns
// its status. It must end when its input does, or when killed is closed.
type program func(in io.Reader, out, errs io.Writer, killed <-chan struct{}) int

// runner starts programs, one after the other from a list; the last one again
// and again.
type runner struct {
	t        *testing.T
	mu       sync.Mutex
	programs []program
	never    bool // the engine cannot start them, and says so instead of them
	started  []*session
}

func (r *runner) Start(_ context.Context, c Command) (Session, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.programs[min(len(r.started), len(r.programs)-1)]
	if p == nil {
		return nil, errors.New("the engine does not answer")
	}
	in, w := io.Pipe()
	s := &session{never: r.never, PipeWriter: w, killed: make(chan struct{}), ended: make(chan struct{})}
	r.started = append(r.started, s)
	go func() {
		s.exit = p(in, c.Stdout, c.Stderr, s.killed)
		_ = in.Close()
		close(s.ended)
	}()
	r.t.Cleanup(func() {
		select {
		case <-s.ended:
		default:
			r.t.Error("a session was left running")
		}
	})
	return s, nil
}

type session struct {
	*io.PipeWriter
	never  bool
	once   sync.Once
	killed chan struct{}
	ended  chan struct{}
	exit   int
}

func (s *session) CloseStdin() error { return s.PipeWriter.Close() }

func (s *session) Started(context.Context) error {
	if s.never {
		return errors.New("it does not run")
	}
	return nil
}

func (s *session) Wait(ctx context.Context) (int, error) {
	select {
	case <-s.ended:
		return s.exit, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (s *session) Kill() error {
	s.once.Do(func() { close(s.killed) })
	return nil
}

func (s *session) Close() error { return nil }

// cat prints a line and reads its input to the end.
func cat(line string, exit int) program {
	return func(in io.Reader, out, _ io.Writer, _ <-chan struct{}) int {
		_, _ = io.WriteString(out, line+"\n")
		_, _ = io.Copy(io.Discard, in)
		return exit
	}
}

// deaf prints a line and waits to be killed.
func deaf(_ io.Reader, out, _ io.Writer, killed <-chan struct{}) int {
	_, _ = io.WriteString(out, "locked\n")
	<-killed
	return 137
}

// fails says why and ends.
func fails(why string) program {
	return func(_ io.Reader, _, errs io.Writer, _ <-chan struct{}) int {
		_, _ = io.WriteString(errs, why+"\n")
		return 1
	}
}

// client answers SELECTs as the MariaDB client does, until it hears fail.
func client(fail, why string) program {
	return func(in io.Reader, out, errs io.Writer, _ <-chan struct{}) int {
		buffer := make([]byte, 4096)
		for {
			n, err := in.Read(buffer)
			for line := range strings.Lines(string(buffer[:n])) {
				if fail != "" && strings.Contains(line, fail) {
					_, _ = io.WriteString(errs, why+"\n")
					return 1
				}
				if s, ok := strings.CutPrefix(line, "SELECT '"); ok {
					_, _ = io.WriteString(out, strings.TrimSuffix(s, "';\n")+"\n")
				}
			}
			if err != nil {
				return 0
			}
		}
	}
}
