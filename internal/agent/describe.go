package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"snapd/internal/advice"
	"snapd/internal/config"
	"snapd/internal/durable"
	"snapd/internal/ship"
)

// Site is where a repository lies, and the key of this host, with which its
// description can be put back.
type Site func(r config.Repository, report Report) (ship.Store, *ship.Signer, error)

// descriptionFile is the description of a repository as this host has read it,
// beside its cache.
const descriptionFile = "description"

// noteDescription keeps the description of a repository: one that is damaged or
// removed later can then be put back byte for byte.
func (a *Agent) noteDescription(name string, repo *ship.Repository) {
	object := repo.Description()
	if a.OnlyRepositories || object == nil {
		return
	}
	file := filepath.Join(a.foundIn(repo.ID), descriptionFile)
	if known, err := os.ReadFile(file); err == nil && bytes.Equal(known, object) {
		return
	}
	if err := durable.Write(file, object, 0o600); err != nil {
		a.warnOfError("", fmt.Errorf("remember the description of repository %s: %w", name, err))
	}
}

// describedAt is the description that this host remembers of an address, nil if
// none.
func describedAt(state string, r config.Repository) []byte {
	_, dir := seenAt(state, r)
	if dir == "" {
		return nil
	}
	object, err := os.ReadFile(filepath.Join(dir, descriptionFile))
	if err != nil {
		return nil // lost: another one is made
	}
	return object
}

// lacksDescription tells whether a repository cannot be opened because its
// description is gone or does not verify.
func lacksDescription(err error) bool {
	return errors.Is(err, ship.ErrNotRepository) || errors.Is(err, ship.Undescribed)
}

// undescribed adds to such an error what this host knows of the place.
func (a *Agent) undescribed(err error, conf config.Repository) error {
	if a.OnlyRepositories || !lacksDescription(err) {
		return err
	}
	number, dir := seenAt(a.State, conf)
	switch {
	case dir == "":
		return err
	case errors.Is(err, ship.Undescribed):
		return advice.With(err, "run: snapd repair %s, which puts the object \"repository\" back as this host remembers it; nothing else there is changed", conf.Name)
	}
	return advice.With(fmt.Errorf("%w; this host has seen one there, with points up to number %d", err, number),
		"check that its disk is mounted and that the address is right; if all but the object \"repository\" is there, run: snapd repair %s, which puts that back", conf.Name)
}

// describe puts the description of the repository back, if that is why it cannot
// be opened. again tells that it can be opened now.
func (r *repair) describe(ctx context.Context, cause error) (again bool, err error) {
	a := r.agent
	if !lacksDescription(cause) || a.Site == nil || a.OnlyRepositories {
		return false, cause
	}
	conf := a.Config.Repositories[r.name]
	store, signer, err := a.Site(conf, a.Report)
	if err != nil || signer == nil {
		return false, errors.Join(cause, err)
	}
	o := ship.CreateOptions{Signer: signer, Encryption: string(conf.Encryption), Now: a.Now()}
	remembered := describedAt(a.State, conf)
	way, err := ship.Redescribe(ctx, store, o, remembered, true)
	if err != nil {
		return false, with(cause, err)
	}
	text := "put back the description of the repository as it was, byte for byte: this host remembers it"
	if !way.Same {
		text = "make the description of the repository anew, for the repository " + way.ID + ": everything that was read there and that this host's key signed is of that one"
	}
	r.step(Repair{Action: RepairPut, Object: "repository", Allowed: true, Text: text + " (" + cause.Error() + ")"})
	if r.o.Plan {
		return false, nil
	}
	if _, err := ship.Redescribe(ctx, store, o, remembered, false); err != nil {
		return false, err
	}
	return true, nil
}
