GO ?= go
GUEST := bin/guest

guest: $(GUEST) ## Make the disposable guest machine for tests, unless it is there
	@$(GUEST) build

guest-shell: $(GUEST) ## A shell in a fresh guest machine
	@$(GUEST) shell

guest-run: $(GUEST) ## Run CMD in a fresh guest machine, with the files PUSH in /root
	@$(GUEST) run $(foreach file,$(PUSH),-push $(file)) '$(subst ','\'',$(CMD))'

guest-clean: $(GUEST) ## Remove the guest's images and saved states
	@$(GUEST) clean

test-guest: $(GUEST) ## Run the tests that need the guest, inside it and from outside
	@$(GUEST) test

$(GUEST): FORCE
	@$(GO) build -o $@ ./internal/vmtest/cmd/guest

FORCE:

.PHONY: guest guest-shell guest-run guest-clean test-guest FORCE
