package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"snapd/internal/config"
	"snapd/internal/ship"
	"snapd/internal/ship/dir"
	"snapd/internal/ship/shiptest"

	"filippo.io/age"
)

// beginning is the call that a user repeats, on the files below a folder.
func beginning(root string) InitOptions {
	return InitOptions{
		File: filepath.Join(root, "etc", "snapd.toml"), URL: "file://" + filepath.Join(root, "repository"),
		Encryption: config.EncryptionAge, KitFile: filepath.Join(root, "kit.txt"), SigningKey: true,
		Store: func(_ context.Context, r config.Repository) (ship.Store, error) {
			return dir.New(strings.TrimPrefix(r.URL, "file://"))
		},
		Show: func(string, bool) error { return nil },
	}
}

func initialize(t *testing.T, o InitOptions) (Initialized, error) {
	t.Helper()
	return Init(t.Context(), o, "host1", time.Now)
}

func mustInit(t *testing.T, o InitOptions) Initialized {
	t.Helper()
	out, err := initialize(t, o)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// kitIsTrue fails unless the kit opens what the configuration encrypts.
func kitIsTrue(t *testing.T, o InitOptions) {
	t.Helper()
	text, err := os.ReadFile(o.KitFile)
	if err != nil {
		t.Fatal(err)
	}
	kit, err := config.ParseKit(o.KitFile, text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if !strings.HasPrefix(string(text), "# snapd recovery kit of host host1") {
		t.Errorf("the kit says of itself:\n%s", text)
	}
	if info, err := os.Stat(o.KitFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the kit: %v %v", info.Mode(), err)
	}
	content, err := os.ReadFile(o.File)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := config.Parse(o.File, content)
	if err != nil {
		t.Fatal(err)
	}
	r := kit.Repositories["main"]
	opened, not, err := trial(conf.Repositories["main"].Recipients, kitIdentities(r))
	if err != nil || len(opened) != 1 || len(not) != 0 {
		t.Errorf("the kit opens %v, and not %v: %v", opened, not, err)
	}
	signer, err := ship.LoadSigner(conf.Repositories["main"].SigningKeyFile)
	if err != nil {
		t.Fatal(err)
	}
	if signer.Public().String() != r.Signer {
		t.Errorf("the kit names the signer %s, the host has %s", r.Signer, signer.Public())
	}
	store, err := o.Store(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ship.Open(t.Context(), store, ship.OpenOptions{Trusted: signer.Public()}); err != nil {
		t.Error(err)
	}
}

const killedAfter = "SNAPD_TEST_INIT_KILLED_AFTER"

// TestInitChild is the process that the next test kills; alone it does nothing.
func TestInitChild(t *testing.T) {
	step, root, child := strings.Cut(os.Getenv(killedAfter), " ")
	if !child {
		return
	}
	o := beginning(root)
	o.after = func(done string) {
		if done == step {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	_, err := initialize(t, o)
	t.Fatalf("the process was not killed after %s: %v", step, err)
}

func TestInitKilledAfterEachStepEndsWithTheSameWords(t *testing.T) {
	for _, step := range []string{"identity", "keys", "repositories", "kit", "configuration"} {
		t.Run(step, func(t *testing.T) {
			root := t.TempDir()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestInitChild$")
			cmd.Env = append(os.Environ(), killedAfter+"="+step+" "+root)
			out, err := cmd.CombinedOutput()
			if ended, ok := errors.AsType[*exec.ExitError](err); !ok || ended.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("the child ended with %v:\n%s", err, out)
			}
			o := beginning(root)
			before, err := os.ReadFile(o.KitFile)
			if err != nil {
				t.Fatal("the identity was not kept: ", err)
			}
			finished := step == "kit" || step == "configuration"
			if _, err := config.ParseKit(o.KitFile, before); (err == nil) != finished {
				t.Errorf("the kit after that step: %v\n%s", err, before)
			}
			if !finished && !strings.HasPrefix(string(before), "# NOT FINISHED") {
				t.Errorf("an unfinished kit says:\n%s", before)
			}
			draft, err := config.ParseUnfinishedKit(o.KitFile, before)
			if err != nil {
				t.Fatal(err)
			}
			mustInit(t, o)
			kitIsTrue(t, o)
			after, err := os.ReadFile(o.KitFile)
			if err != nil || !strings.Contains(string(after), draft.Repositories["main"].Identity) {
				t.Errorf("the identity that was kept first is lost: %v", err)
			}
			if again := mustInit(t, o); len(again.Made) > 0 || again.Kit == nil || len(again.Kit.Proved) != 1 {
				t.Errorf("a third call: %+v", again)
			}
		})
	}
}

func TestInitEndsAfterAnyFailedRequest(t *testing.T) {
	for _, op := range []string{"get", "put", "delete", "list"} {
		for n := 1; ; n++ {
			o := beginning(t.TempDir())
			plain, calls := o.Store, 0
			o.Store = func(ctx context.Context, r config.Repository) (ship.Store, error) {
				s, err := plain(ctx, r)
				return &failing{Store: s, op: op, nth: n, calls: &calls}, err
			}
			_, err := initialize(t, o)
			if calls < n {
				if n == 1 {
					t.Errorf("init makes no %s", op)
				}
				break
			}
			if err == nil {
				t.Errorf("%s %d failed, and init said nothing", op, n)
			}
			if _, err := os.Stat(o.File); err == nil {
				t.Errorf("%s %d failed, and a configuration was left", op, n)
			}
			o.Store = plain
			mustInit(t, o)
			kitIsTrue(t, o)
		}
	}
}

// failing is a store whose nth call of an operation fails, counted over all
// stores that one call of init opens.
type failing struct {
	ship.Store
	op    string
	nth   int
	calls *int
}

func (f *failing) script(op string) ship.Store {
	if op != f.op {
		return f.Store
	}
	if *f.calls++; *f.calls != f.nth {
		return f.Store
	}
	return shiptest.NewFaults(f.Store, shiptest.Fault{Op: op, Nth: 1, Err: fmt.Errorf("cable cut: %w", ship.ErrUnavailable)})
}

func (f *failing) Make() error { return f.Store.(ship.Maker).Make() }

func (f *failing) Put(ctx context.Context, key string, body []byte, ifAbsent bool) error {
	return f.script("put").Put(ctx, key, body, ifAbsent)
}

func (f *failing) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	return f.script("get").Get(ctx, key)
}

func (f *failing) List(ctx context.Context, prefix string, each func(ship.Object) error) error {
	return f.script("list").List(ctx, prefix, each)
}

func (f *failing) Delete(ctx context.Context, key string) error {
	return f.script("delete").Delete(ctx, key)
}

// met is the obstacle of an error, -1 for none.
func met(err error) ObstacleKind {
	if o, ok := errors.AsType[*Obstacle](err); ok {
		return o.Kind
	}
	return -1
}

func TestInitMakesNothingWhereAnotherKeyIs(t *testing.T) {
	o := beginning(t.TempDir())
	mustInit(t, o)
	signer, err := ship.LoadSigner(filepath.Join(filepath.Dir(o.File), "signing.key"))
	if err != nil {
		t.Fatal(err)
	}
	old := o.KitFile
	if err := os.RemoveAll(filepath.Dir(o.File)); err != nil {
		t.Fatal(err)
	}
	o.KitFile += ".new"
	_, err = initialize(t, o)
	if met(err) != ForeignRepository || !strings.Contains(err.Error(), signer.Public().String()) {
		t.Fatalf("got %v", err)
	}
	for _, made := range []string{o.KitFile, filepath.Dir(o.File)} {
		if _, err := os.Stat(made); err == nil {
			t.Errorf("%s was made all the same", made)
		}
	}
	// The old kit, which holds the signing key, brings everything back.
	o.KitFile, o.FromKit, o.SigningKey, o.URL = old, true, false, ""
	mustInit(t, o)
	kitIsTrue(t, o)
}

// On a versioned bucket a repository that was deleted can be brought back: none
// is made on top of it.
func TestInitMakesNothingOnTopOfHiddenVersions(t *testing.T) {
	root := t.TempDir()
	o := beginning(root)
	plain := o.Store
	o.Store = func(ctx context.Context, r config.Repository) (ship.Store, error) {
		s, err := plain(ctx, r)
		return shiptest.NewFaults(s, shiptest.Fault{
			Op: "get", Key: "repository", Nth: 1, Always: true, Err: fmt.Errorf("%w: %w", ship.ErrNotFound, ship.ErrDeleted),
		}), err
	}
	if _, err := initialize(t, o); !errors.Is(err, ship.ErrDeleted) || errors.Is(err, ship.ErrNotRepository) {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(root); err != nil || len(left) > 0 {
		t.Errorf("%v was made all the same, %v", left, err)
	}
}

func TestInitFromAKitSaysWhatIsMissing(t *testing.T) {
	o := beginning(t.TempDir())
	o.SigningKey = false
	mustInit(t, o)
	if err := os.RemoveAll(filepath.Dir(o.File)); err != nil {
		t.Fatal(err)
	}
	o.FromKit = true
	_, err := initialize(t, o)
	if obstacle, ok := errors.AsType[*Obstacle](err); !ok || obstacle.Kind != NoSigningKey || obstacle.Free != o.URL+"-2" {
		t.Errorf("without a signing key in the kit: %+v", err)
	}
	if _, err := os.Stat(filepath.Dir(o.File)); err == nil {
		t.Error("something was made all the same")
	}
}

func TestKitOfAConfiguredHost(t *testing.T) {
	o := beginning(t.TempDir())
	o.SigningKey = false
	mustInit(t, o)
	old := o.KitFile
	// A second recipient, whose identity is elsewhere.
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(o.File)
	if err != nil {
		t.Fatal(err)
	}
	two := strings.Replace(string(text), `recipients = [`, `recipients = ["`+other.Recipient().String()+`", `, 1)
	if err := os.WriteFile(o.File, []byte(two), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := initialize(t, o); met(err) != KitThere {
		t.Errorf("a kit that is there and names fewer recipients: %v", err)
	}
	o.KitFile = old + ".new"
	if _, err := initialize(t, o); met(err) != NeedsIdentity {
		t.Errorf("without an identity: %v", err)
	}
	if _, err := os.Stat(o.KitFile); err == nil {
		t.Error("a kit was written without an identity")
	}
	o.IdentityFiles = []string{old}
	got := mustInit(t, o)
	if p := got.Kit.Proved[0]; len(p.Opens) != 1 || len(p.NotOpened) != 1 || p.NotOpened[0] != other.Recipient().String() {
		t.Errorf("proved: %+v", p)
	}
	written, err := os.ReadFile(o.KitFile)
	if err != nil || !strings.Contains(string(written), "does NOT open what is encrypted for "+other.Recipient().String()) {
		t.Errorf("%v\n%s", err, written)
	}
	// Without a file and an identity, a card: not called more than it is.
	o.KitFile, o.IdentityFiles = "", nil
	card, recovery := "", true
	o.Show = func(text string, r bool) error { card, recovery = text, r; return nil }
	mustInit(t, o)
	if recovery || !strings.Contains(card, "IT OPENS NOTHING WITHOUT THE IDENTITY") || strings.Contains(card, "AGE-SECRET-KEY-1") {
		t.Errorf("card (recovery kit: %v):\n%s", recovery, card)
	}
}

func TestKitMustOpenARealPoint(t *testing.T) {
	o := beginning(t.TempDir())
	mustInit(t, o)
	old := o.KitFile
	ships(t, o)
	got := mustInit(t, o)
	if got.Kit.Proved[0].Point == "" {
		t.Error("a point was there, and none was opened")
	}
	// The configuration is lost, the signing key is not: a new identity would
	// open nothing of what is there.
	if err := os.Remove(o.File); err != nil {
		t.Fatal(err)
	}
	o.KitFile = old + ".new"
	if _, err := initialize(t, o); met(err) != PointsThere {
		t.Errorf("got %v", err)
	}
	o.KitFile, o.FromKit, o.SigningKey = old, true, false
	if got := mustInit(t, o); got.Kit.Proved[0].Point == "" {
		t.Error("went on without opening a point")
	}
}

// ships has a host take and ship a restore point, with what init made.
func ships(t *testing.T, o InitOptions) {
	t.Helper()
	content, err := os.ReadFile(o.File)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := config.Parse(o.File, content)
	if err != nil {
		t.Fatal(err)
	}
	made := conf.Repositories["main"]
	b := newBench(t, "", "main")
	b.Open = func(ctx context.Context, _ config.Repository, _ Report) (*ship.Repository, error) {
		signer, err := ship.LoadSigner(made.SigningKeyFile)
		b.check(err)
		to, err := age.ParseX25519Recipient(made.Recipients[0])
		b.check(err)
		store, err := o.Store(ctx, made)
		b.check(err)
		return ship.Open(ctx, store, ship.OpenOptions{Signer: signer, Recipients: []age.Recipient{to}})
	}
	b.take()
	b.ship()
}
