package fstest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"snapd/internal/fs"
)

// wrong is a driver that breaks one part of the contract.
type wrong struct {
	part string // of the suite, which has to fail
	says string // by which it is seen that it fails for the right reason
	make func(m *Memory) fs.Driver
}

// bent is a driver with some methods in another form.
type bent struct {
	fs.Driver
	locate    func(ctx context.Context, path string) (fs.Place, error)
	prepare   func(ctx context.Context, name string, datasets []fs.Dataset) (fs.Prepared, error)
	snapshots func(ctx context.Context, dataset fs.Dataset) ([]fs.Snapshot, error)
	remove    func(ctx context.Context, s fs.Snapshot) error
	send      func(ctx context.Context, s fs.Snapshot, base *fs.Snapshot) (io.ReadCloser, error)
	receive   func(ctx context.Context, target string, p fs.Placement) (fs.Receiver, error)
}

func (b bent) Locate(ctx context.Context, path string) (fs.Place, error) {
	if b.locate != nil {
		return b.locate(ctx, path)
	}
	return b.Driver.Locate(ctx, path)
}

func (b bent) Prepare(ctx context.Context, name string, datasets []fs.Dataset) (fs.Prepared, error) {
	if b.prepare != nil {
		return b.prepare(ctx, name, datasets)
	}
	return b.Driver.Prepare(ctx, name, datasets)
}

func (b bent) Snapshots(ctx context.Context, dataset fs.Dataset) ([]fs.Snapshot, error) {
	if b.snapshots != nil {
		return b.snapshots(ctx, dataset)
	}
	return b.Driver.Snapshots(ctx, dataset)
}

func (b bent) Delete(ctx context.Context, s fs.Snapshot) error {
	if b.remove != nil {
		return b.remove(ctx, s)
	}
	return b.Driver.Delete(ctx, s)
}

func (b bent) Send(ctx context.Context, s fs.Snapshot, base *fs.Snapshot) (io.ReadCloser, error) {
	if b.send != nil {
		return b.send(ctx, s, base)
	}
	return b.Driver.Send(ctx, s, base)
}

func (b bent) Receive(ctx context.Context, target string, p fs.Placement) (fs.Receiver, error) {
	if b.receive != nil {
		return b.receive(ctx, target, p)
	}
	return b.Driver.Receive(ctx, target, p)
}

// bentReceiver is a receiver with some methods in another form.
type bentReceiver struct {
	fs.Receiver
	apply  func(ctx context.Context, stream io.Reader, guid, base string) error
	finish func(ctx context.Context) (fs.Dataset, error)
	close  func() error
}

func (b bentReceiver) Apply(ctx context.Context, stream io.Reader, guid, base string) error {
	if b.apply != nil {
		return b.apply(ctx, stream, guid, base)
	}
	return b.Receiver.Apply(ctx, stream, guid, base)
}

func (b bentReceiver) Finish(ctx context.Context) (fs.Dataset, error) {
	if b.finish != nil {
		return b.finish(ctx)
	}
	return b.Receiver.Finish(ctx)
}

func (b bentReceiver) Close() error {
	if b.close != nil {
		return b.close()
	}
	return b.Receiver.Close()
}

// receiving bends the receivers of a driver.
func receiving(m *Memory, bend func(r fs.Receiver, target string) bentReceiver) fs.Driver {
	return bent{Driver: m, receive: func(ctx context.Context, target string, p fs.Placement) (fs.Receiver, error) {
		r, err := m.Receive(ctx, target, p)
		if err != nil {
			return nil, err
		}
		b := bend(r, target)
		b.Receiver = r
		return b, nil
	}}
}

// applying has what Apply returns go through a function.
func applying(m *Memory, change func(error) error) fs.Driver {
	return receiving(m, func(r fs.Receiver, _ string) bentReceiver {
		return bentReceiver{apply: func(ctx context.Context, stream io.Reader, guid, base string) error {
			return change(r.Apply(ctx, stream, guid, base))
		}}
	})
}

// closedLate is a Prepared that is not closed.
type closedLate struct{ fs.Prepared }

func (closedLate) Close() error { return nil }

// backwards is a Prepared that mixes its results up.
type backwards struct{ fs.Prepared }

func (b backwards) Result(ctx context.Context) ([]fs.Snapshot, error) {
	made, err := b.Prepared.Result(ctx)
	slices.Reverse(made)
	return made, err
}

// endless is a stream that ends where it was closed.
type endless struct {
	io.ReadCloser
	closed bool
}

func (e *endless) Read(p []byte) (int, error) {
	if e.closed {
		return 0, io.EOF
	}
	return e.ReadCloser.Read(p)
}

func (e *endless) Close() error {
	e.closed = true
	return e.ReadCloser.Close()
}

func wrongDrivers() []wrong {
	return append(wrongWithSnapshots(), wrongWithStreams()...)
}

func wrongWithSnapshots() []wrong {
	return []wrong{
		{"locate", "want path", func(m *Memory) fs.Driver {
			return bent{Driver: m, locate: func(ctx context.Context, path string) (fs.Place, error) {
				p, err := m.Locate(ctx, path)
				p.Path = "."
				return p, err
			}}
		}},
		{"locate what is not there", "want ErrNotFound", func(m *Memory) fs.Driver {
			return bent{Driver: m, locate: func(ctx context.Context, path string) (fs.Place, error) {
				p, err := m.Locate(ctx, path)
				if errors.Is(err, fs.ErrNotFound) {
					return m.Locate(ctx, filepath.Dir(path))
				}
				return p, err
			}}
		}},
		{"snapshots", "want [", func(m *Memory) fs.Driver {
			return bent{Driver: m, snapshots: func(ctx context.Context, d fs.Dataset) ([]fs.Snapshot, error) {
				all, err := m.Snapshots(ctx, d)
				slices.SortFunc(all, func(a, b fs.Snapshot) int { return strings.Compare(a.Name, b.Name) })
				return all, err
			}}
		}},
		{"snapshot is one instant", "the first file is at", func(m *Memory) fs.Driver {
			m.between = func(path string) { // the writer goes on before the next file is read
				if filepath.Base(path) != "first" {
					return
				}
				second := filepath.Join(filepath.Dir(path), "second")
				before, _ := os.ReadFile(second)
				for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
					now, err := os.ReadFile(second)
					if err == nil && binary.BigEndian.Uint64(now) > binary.BigEndian.Uint64(before)+3 {
						return
					}
					time.Sleep(time.Millisecond)
				}
			}
			return m
		}},
		{"several datasets", "snapshot 0 is of", func(m *Memory) fs.Driver {
			return bent{Driver: m, prepare: func(ctx context.Context, name string, of []fs.Dataset) (fs.Prepared, error) {
				p, err := m.Prepare(ctx, name, of)
				return backwards{p}, err
			}}
		}},
		{"prepared is closed", "a closed Prepared takes a snapshot", func(m *Memory) fs.Driver {
			return bent{Driver: m, prepare: func(ctx context.Context, name string, of []fs.Dataset) (fs.Prepared, error) {
				p, err := m.Prepare(ctx, name, of)
				if err != nil {
					return nil, err
				}
				return closedLate{p}, nil
			}}
		}},
		{"delete", "is deleted by its name", func(m *Memory) fs.Driver {
			return bent{Driver: m, remove: func(ctx context.Context, s fs.Snapshot) error {
				all, err := m.Snapshots(ctx, s.Dataset)
				i := slices.IndexFunc(all, func(o fs.Snapshot) bool { return o.Name == s.Name })
				if err != nil || i < 0 {
					return err
				}
				return m.Delete(ctx, all[i])
			}}
		}},
		{"dataset is gone", "want ErrNotFound", func(m *Memory) fs.Driver {
			return bent{Driver: m, snapshots: func(ctx context.Context, d fs.Dataset) ([]fs.Snapshot, error) {
				all, err := m.Snapshots(ctx, d)
				if errors.Is(err, fs.ErrNotFound) {
					return nil, nil
				}
				return all, err
			}}
		}},
	}
}

func wrongWithStreams() []wrong {
	return []wrong{
		{"round trip", "time (ns)", func(m *Memory) fs.Driver {
			return receiving(m, func(r fs.Receiver, target string) bentReceiver {
				return bentReceiver{finish: func(ctx context.Context) (fs.Dataset, error) {
					d, err := r.Finish(ctx)
					return d, firstOf(err, os.Chtimes(filepath.Join(target, "many/007"), time.Time{}, time.Now()))
				}}
			})
		}},
		{"skipped increments", "base does not fit", func(m *Memory) fs.Driver {
			return bent{Driver: m, send: func(ctx context.Context, s fs.Snapshot, base *fs.Snapshot) (io.ReadCloser, error) {
				all, err := m.Snapshots(ctx, s.Dataset)
				if err == nil && base != nil { // always on the newest before it
					base = &all[slices.Index(all, s)-1]
				}
				return m.Send(ctx, s, base)
			}}
		}},
		{"wrong base", "want ErrBase", func(m *Memory) fs.Driver {
			return bent{Driver: m, send: func(ctx context.Context, s fs.Snapshot, base *fs.Snapshot) (io.ReadCloser, error) {
				r, err := m.Send(ctx, s, base)
				if errors.Is(err, fs.ErrBase) {
					return m.Send(ctx, s, nil)
				}
				return r, err
			}}
		}},
		{"cut stream", "got error <nil>", func(m *Memory) fs.Driver {
			return applying(m, func(err error) error {
				if errors.Is(err, io.ErrUnexpectedEOF) {
					return nil
				}
				return err
			})
		}},
		{"damaged stream", "got error <nil>", func(m *Memory) fs.Driver {
			return applying(m, func(err error) error {
				if errors.Is(err, errNoStream) && !errors.Is(err, io.ErrUnexpectedEOF) {
					return nil
				}
				return err
			})
		}},
		{"reader fails", "got error", func(m *Memory) fs.Driver {
			return receiving(m, func(r fs.Receiver, _ string) bentReceiver {
				return bentReceiver{apply: func(ctx context.Context, stream io.Reader, guid, base string) error {
					data, _ := io.ReadAll(stream) // whatever ended it
					return r.Apply(ctx, bytes.NewReader(data), guid, base)
				}}
			})
		}},
		{"target exists", "want ErrExists", func(m *Memory) fs.Driver {
			return bent{Driver: m, receive: func(ctx context.Context, target string, p fs.Placement) (fs.Receiver, error) {
				p.ReplaceSuffix = ".other"
				return m.Receive(ctx, target, p)
			}}
		}},
		{"replace", "is moved before Finish", func(m *Memory) fs.Driver {
			return bent{Driver: m, receive: func(ctx context.Context, target string, p fs.Placement) (fs.Receiver, error) {
				if p.ReplaceSuffix != "" {
					_ = os.Rename(target, target+p.ReplaceSuffix) // there may be none
				}
				return m.Receive(ctx, target, fs.Placement{})
			}}
		}},
		{"receiver is closed", "left over", func(m *Memory) fs.Driver {
			return receiving(m, func(fs.Receiver, string) bentReceiver {
				return bentReceiver{close: func() error { return nil }}
			})
		}},
		{"send is cancelled", "want Canceled", func(m *Memory) fs.Driver {
			return bent{Driver: m, send: func(ctx context.Context, s fs.Snapshot, base *fs.Snapshot) (io.ReadCloser, error) {
				return m.Send(context.WithoutCancel(ctx), s, base)
			}}
		}},
		{"send is closed early", "an error that is not an end", func(m *Memory) fs.Driver {
			return bent{Driver: m, send: func(ctx context.Context, s fs.Snapshot, base *fs.Snapshot) (io.ReadCloser, error) {
				r, err := m.Send(ctx, s, base)
				if err != nil {
					return nil, err
				}
				return &endless{ReadCloser: r}, nil
			}}
		}},
		{"receive is cancelled", "got error", func(m *Memory) fs.Driver {
			return applying(m, func(err error) error {
				if errors.Is(err, context.Canceled) {
					return errors.New("it was stopped")
				}
				return err
			})
		}},
		{"target is full", "want ErrNoSpace", func(m *Memory) fs.Driver {
			return applying(m, func(err error) error {
				if errors.Is(err, fs.ErrNoSpace) {
					return errors.New("it did not work")
				}
				return err
			})
		}},
		{"health", "of []", func(m *Memory) fs.Driver { return sick{m} }},
		{"open", `"goes" is missing`, func(m *Memory) fs.Driver { return living{m, NewOpening(m)} }},
	}
}

// sick finds something where nothing was asked about.
type sick struct{ *Memory }

func (sick) Health(context.Context, []fs.Dataset) ([]fs.Finding, error) {
	return []fs.Finding{{}}, nil
}

// living opens the dataset as it is now.
type living struct {
	*Memory
	right *Opening
}

func (l living) Open(ctx context.Context, s fs.Snapshot) (fs.Opened, error) {
	o, err := l.right.Open(ctx, s)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(s.Dataset.Name)
	if err != nil {
		return nil, err
	}
	return livingOpened{o, root}, nil
}

type livingOpened struct {
	fs.Opened
	root *os.Root
}

func (o livingOpened) Root() *os.Root { return o.root }

// wrongVariable names, in a process of its own, the part that its driver breaks.
const wrongVariable = "SNAPD_WRONG_DRIVER"

// TestEveryPartCanFail: a driver that breaks one part of the contract fails that
// part of the suite, each in a process of its own, since a test that fails cannot
// be taken back.
func TestEveryPartCanFail(t *testing.T) {
	if os.Getenv(wrongVariable) != "" {
		return // this is such a process
	}
	all := wrongDrivers()
	for _, p := range parts() {
		i := slices.IndexFunc(all, func(w wrong) bool { return w.part == p.name })
		if i < 0 {
			t.Errorf("no wrong driver shows that the part %q can fail", p.name)
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOneWrongDriver$")
			cmd.Env = append(os.Environ(), wrongVariable+"="+p.name)
			out, err := cmd.CombinedOutput()
			failed, ended := errors.AsType[*exec.ExitError](err)
			switch text := string(out); {
			case err == nil:
				t.Errorf("the suite finds nothing wrong:\n%s", text)
			case !ended || failed.ExitCode() != 1 || strings.Contains(text, "panic:"):
				t.Errorf("%v:\n%s", err, text)
			case !strings.Contains(text, all[i].says):
				t.Errorf("it is not said that %q:\n%s", all[i].says, text)
			}
		})
	}
}

func TestOneWrongDriver(t *testing.T) {
	part := os.Getenv(wrongVariable)
	if part == "" {
		return // its driver is wrong: only TestEveryPartCanFail runs it
	}
	for _, w := range wrongDrivers() {
		if w.part == part {
			m := &Memory{}
			h := memoryHarness(t, m)
			h.Driver = w.make(m)
			RunSome(t, h, part)
		}
	}
}
