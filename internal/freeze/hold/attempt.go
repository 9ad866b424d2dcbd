package hold

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// attempt is one session with which a lock is tried.
type attempt struct {
	Session
	out  *lines
	errs *tail
	done chan struct{} // closed when the command has ended
	exit int           // read after done
	err  error         // read after done: why it is not known how it ended
	gone time.Time     // when the lock was certainly gone
}

// failure is a session that ended although it should not have.
type failure struct {
	exit   int
	err    error
	output string
}

func (f *failure) Error() string {
	if f.err != nil {
		return fmt.Sprintf("its session broke: %v", f.err)
	}
	return fmt.Sprintf("its command ended with status %d; %s", f.exit, lastWords(f.output))
}

func (f *failure) Unwrap() error { return f.err }

func start(ctx context.Context, r Runner, to Target, of recipe, mark string) (*attempt, error) {
	a := &attempt{out: newLines(), errs: &tail{}, done: make(chan struct{})}
	var err error
	a.Session, err = r.Start(ctx, Command{Target: to, Args: of.args, Mark: mark, Stdout: a.out, Stderr: a.errs})
	if err != nil {
		return nil, err
	}
	go func() { // ends with the session, which every attempt closes
		defer close(a.done)
		a.exit, a.err = a.Wait(context.WithoutCancel(ctx))
	}()
	return a, nil
}

// say writes, calls written unless it is nil, and waits for the answer. A
// command that has just ended explains more than the pipe that broke by it.
func (a *attempt) say(ctx context.Context, text, answer string, written func()) (string, error) {
	var err error
	if text != "" {
		_, err = a.Write([]byte(text))
	}
	if written != nil {
		written()
	}
	if err == nil {
		return a.await(ctx, answer)
	}
	if a.over() {
		return "", &failure{exit: a.exit, err: a.err, output: a.errs.String()}
	}
	return "", err
}

// acknowledged makes sure that a line came from the command.
func (a *attempt) acknowledged(ctx context.Context, line string) error {
	err := a.Started(ctx)
	if err != nil && a.over() {
		return &failure{exit: a.exit, err: a.err, output: line + "\n" + a.errs.String()}
	}
	return err
}

// await waits for a line: this very one, or any if it is "".
func (a *attempt) await(ctx context.Context, want string) (string, error) {
	for {
		select {
		case got := <-a.out.out:
			if want == "" || strings.TrimSpace(got) == want {
				return got, nil
			}
		case <-a.done:
			return "", &failure{exit: a.exit, err: a.err, output: a.errs.String()}
		case <-ctx.Done():
			return "", fmt.Errorf("it did not answer in time: %w (%s)", ctx.Err(), lastWords(a.errs.String()))
		}
	}
}

// finish releases the lock, by agreement if possible, and says why it may not
// have been held until then, "" if it certainly was.
func (a *attempt) finish(ctx context.Context, of recipe) (why string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	select {
	case <-a.done:
		why = (&failure{exit: a.exit, err: a.err, output: a.errs.String()}).Error()
	default:
	}
	proven := false
	if of.release != "" && why == "" {
		_, err := a.say(ctx, of.release, of.released, nil)
		if err != nil {
			why = "it could not be released in order: " + err.Error()
		}
		proven, a.gone = err == nil, time.Now()
	}
	left := a.end(of.release != "" && !proven)
	if !proven {
		a.gone = time.Now()
	}
	switch {
	case why != "" || proven:
		return why
	case left != nil:
		return left.Error()
	case a.err != nil || a.exit != 0:
		return (&failure{exit: a.exit, err: a.err, output: a.errs.String()}).Error()
	}
	return ""
}

// end closes the command's input, waits for its end, and helps where that
// takes too long, or at once when it has not listened before. It returns why
// the end is not certain, or was not voluntary.
func (a *attempt) end(deaf bool) error {
	err := a.CloseStdin()
	if !deaf && a.over() {
		_ = a.Close() // it has ended
		return nil
	}
	killed := a.Kill()
	over := a.over()
	_ = a.Close() // says no more than what is known
	<-a.done
	switch {
	case killed != nil:
		return fmt.Errorf("it did not end when its input did, and could not be ended: %w", killed)
	case !over && err != nil:
		return fmt.Errorf("it may still run: its input could not be closed: %w", err)
	case !over:
		return errors.New("it was killed, and the engine does not confirm that it has ended")
	}
	return fmt.Errorf("it did not end within %v when its input did, and was killed", patience)
}

// over waits a moment for the end.
func (a *attempt) over() bool {
	select {
	case <-a.done:
		return true
	case <-time.After(patience):
		return false
	}
}
