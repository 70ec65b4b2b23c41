# SPDX-License-Identifier: MIT
# One non-recursive GNU Makefile. Variants keep apart by BUILD: make BUILD=build/clang CC=clang.
#
#   all      the four programs into $(BUILD)         demo     shows the main job on this machine, about half a minute
#   deps     installs missing Debian packages        check    every behaviour once: units, structure, corpus, attacks, scenarios
#   install  programs, man pages, units (DESTDIR, PREFIX) check-full  the full counts, both I/O back ends
#   lint     formatting, shellcheck, cppcheck        check-asan, check-tsan  the same tests under sanitizers
#   soak     the property tests, 10 minutes           check-vm  what rests on the kernel, under Debian 12's own (QEMU)
#   format   rewrites sources by .clang-format       cov, fuzz, bench  coverage, 60 s of each fuzzer, measurements
#
# Variables: CC, BUILD, OPT, SAN, PREFIX, DESTDIR; for the tests SOSIE_ROUNDS (a number, full, few), SOSIE_IO (uring, threads),
# JOBS (how many test programs run at once).

ifeq ($(origin CC),default)
CC      := gcc
endif
BUILD   ?= build
PREFIX  ?= /usr/local
DESTDIR ?=
SAN     ?=
OPT     ?= -O2 -g
JOBS    ?= 2
FUZZ_SECONDS ?= 60

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wvla -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
        -Wformat=2 -Wundef -Wcast-qual -Wwrite-strings -Werror
CPPFLAGS += -Iinclude -I. -D_GNU_SOURCE
CFLAGS   += -std=c17 $(OPT) $(WARN) -fstack-protector-strong -fPIE -pthread $(SAN)
LDFLAGS  += -pie -pthread -Wl,--as-needed -Wl,-z,relro,-z,now $(SAN)
LIBS     := -lssh2 -luring -lzstd -ljansson -lcrypto -lrsync -lcyaml -lyaml -lseccomp

.DEFAULT_GOAL := all

# make V=1 shows the commands.
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-5s %s\n' $(1) $(2))

LIB_SRC   := $(wildcard engine/*/*.c transport/*.c)
COMMON_SRC := $(wildcard tools/common/*.c)
PROGRAMS  := sosie sosied sosie-receive sosie-keeper
TEST_SRC  := $(wildcard tests/unit/*/test_*.c tests/sim/test_*.c tests/hostile/test_*.c)
TEST_LIB_SRC := $(wildcard tests/support/*.c)
FUZZ_SRC  := $(wildcard tests/fuzz/fuzz_*.c)
SEED_SRC  := $(wildcard tests/fuzz/seed_*.c)
MAN       := $(wildcard docs/man/*.[1-8])

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
LIB   := $(BUILD)/libsosie.a
TESTS := $(patsubst %.c,$(BUILD)/%,$(TEST_SRC))
REPLAYS := $(patsubst tests/fuzz/fuzz_%.c,$(BUILD)/tests/fuzz/replay_%,$(FUZZ_SRC))
FUZZERS := $(patsubst tests/fuzz/fuzz_%.c,$(BUILD)/tests/fuzz/fuzz_%,$(FUZZ_SRC))
PROG_SRC := $(foreach p,$(PROGRAMS),$(wildcard tools/$(p)/*.c))

# Goals that set the machine up first: nothing is compiled before the packages are there, also with -j.
SETUP := $(if $(filter deps demo check check-full check-asan check-tsan check-vm soak cov fuzz bench,$(MAKECMDGOALS)),deps)

all: $(addprefix $(BUILD)/,$(PROGRAMS))

$(BUILD)/obj/%.o: %.c | $(SETUP)
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(LIB): $(call obj,$(LIB_SRC))
	@rm -f $@
	$(call say,AR,$@)
	$(Q)$(AR) rcs $@ $^

# An archive of its own: a program takes from it what it calls, so the receiver gets no JSON.
COMMON := $(BUILD)/libcommon.a
$(COMMON): $(call obj,$(COMMON_SRC))
	@rm -f $@
	$(call say,AR,$@)
	$(Q)$(AR) rcs $@ $^

define program
$(BUILD)/$(1): $$(call obj,$$(wildcard tools/$(1)/*.c)) $(COMMON) $(LIB)
	$$(call say,LD,$$@)
	$$(Q)$(CC) $$(LDFLAGS) -o $$@ $$(call obj,$$(wildcard tools/$(1)/*.c)) $(COMMON) $(LIB) $(LIBS)
endef
$(foreach p,$(PROGRAMS),$(eval $(call program,$(p))))

$(TESTS): $(BUILD)/%: $(BUILD)/obj/%.o $(call obj,$(TEST_LIB_SRC)) $(LIB)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $< $(call obj,$(TEST_LIB_SRC)) $(LIB) -lcmocka $(LIBS)

$(REPLAYS): $(BUILD)/tests/fuzz/replay_%: $(call obj,tests/fuzz/replay.c) $(BUILD)/obj/tests/fuzz/fuzz_%.o $(LIB)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

$(FUZZERS): $(BUILD)/tests/fuzz/fuzz_%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(LIB)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LIBS)

# The programs that write the seed corpora: run by hand when a format grows, with tests/fuzz/corpus as the argument.
SEEDS := $(patsubst %.c,$(BUILD)/%,$(SEED_SRC))
$(SEEDS): $(BUILD)/%: $(BUILD)/obj/%.o $(BUILD)/obj/tests/support/sample_message.o $(LIB)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

# What scenarios run beside the product: writers whose order can be judged in a copy.
JUDGES := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/judge/*.c))
$(JUDGES): $(BUILD)/%: $(BUILD)/obj/%.o $(BUILD)/obj/tests/support/order.o
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^

# A source that says what it must not, for tests/scenarios/hostile.sh.
HOSTILE := $(patsubst %.c,$(BUILD)/%,$(filter-out tests/hostile/test_%,$(wildcard tests/hostile/*.c)))
$(HOSTILE): $(BUILD)/%: $(BUILD)/obj/%.o $(LIB)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

tests: $(TESTS) $(REPLAYS) $(SEEDS) $(JUDGES) $(HOSTILE)

deps:
	@tools/deps.sh build check

demo: deps all
	@SOSIE_BIN="$(abspath $(BUILD))" tests/demo

# --- tests -------------------------------------------------------------------------------------------------------------
check: deps all tests
	@tests/run --build "$(BUILD)" --jobs $(JOBS) --title check unit check fuzz hostile scenario

# The full counts: the programs that have counts. All others would do again what check does. With the thread pool what opens a back end of its
# own once more: the source's worker, and the programs themselves.
counted = $(addprefix unit:,$(basename $(notdir $(shell grep -lE 'SOSIE_ROUNDS|test_rounds|test_stride' $(1)))))
COUNTED_SCENARIOS := $(addprefix scenario:,$(basename $(notdir $(shell grep -lE 'rounds [0-9]+ [0-9]' tests/scenarios/*.sh))))
check-full: deps all tests
	@SOSIE_IO=uring SOSIE_ROUNDS=full tests/run --build "$(BUILD)" --jobs $(JOBS) --title check-full/uring \
		$(call counted,tests/unit/*/*.c) $(COUNTED_SCENARIOS)
	@SOSIE_IO=threads SOSIE_ROUNDS=full tests/run --build "$(BUILD)" --jobs $(JOBS) --title check-full/threads \
		$(call counted,tests/unit/replicate/*.c) $(COUNTED_SCENARIOS) scenario:first-copy scenario:filesystems scenario:volumes

# What a change set may never lack, under random writes for ten minutes; SOSIE_SEED repeats a run.
SOAK_SECONDS ?= 600
soak: deps all tests
	@SOSIE_NO_SKIP=1 SOSIE_SOAK_SECONDS=$(SOAK_SECONDS) SOSIE_TEST_TIMEOUT=$$(($(SOAK_SECONDS) * 4 + 300)) \
		tests/run --build "$(BUILD)" --jobs $(JOBS) --title soak unit:test_changes_views

# Programs that test what the kernel does, under the kernel that Debian 12 ships.
VM_TESTS := test_changes_views.c test_pause.c test_receiver_escapes.c
check-vm: deps all tests
	@tools/deps.sh vm
	@SOSIE_NO_SKIP=$(SOSIE_NO_SKIP) tests/vm/run --build "$(BUILD)" --timeout 400 $(VM_TESTS:.c=)

ASAN := build/asan
TSAN := build/tsan
COV  := build/cov
FUZZ := build/fuzz

check-asan: deps
	@$(MAKE) BUILD=$(ASAN) OPT="-O1 -g" SAN="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer" all tests
	@ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1 UBSAN_OPTIONS=print_stacktrace=1 LSAN_OPTIONS=suppressions=$(CURDIR)/tests/lsan-suppressions:print_suppressions=0 \
		tests/run --build $(ASAN) --jobs $(JOBS) --title check-asan unit fuzz hostile:test_inbox_attacks scenario

check-tsan: deps
	@$(MAKE) BUILD=$(TSAN) OPT="-O1 -g" SAN="-fsanitize=thread" all tests
	@SOSIE_ROUNDS=few TSAN_OPTIONS=halt_on_error=1:suppressions=$(CURDIR)/tests/tsan-suppressions tests/run --build $(TSAN) --jobs $(JOBS) --title check-tsan unit \
		scenario:first-copy scenario:two-senders scenario:kill scenario:mirror

cov: deps
	@tools/deps.sh cov
	@$(MAKE) BUILD=$(COV) OPT="-O0 -g -DSOSIE_COVERAGE" SAN="--coverage" all tests
	@tests/run --build $(COV) --jobs $(JOBS) --title cov unit fuzz hostile:test_inbox_attacks scenario
	@lcov --quiet --capture --directory $(COV) --output-file $(COV)/all.info
	@lcov --quiet --extract $(COV)/all.info '$(CURDIR)/engine/*' '$(CURDIR)/transport/*' '$(CURDIR)/tools/*' --output-file $(COV)/sosie.info
	@lcov --list $(COV)/sosie.info

fuzz: deps
	@tools/deps.sh fuzz
	@$(MAKE) CC=clang BUILD=$(FUZZ) OPT="-O1 -g" SAN="-fsanitize=fuzzer-no-link,address,undefined" fuzzers
	@tests/fuzz-run $(FUZZ) $(FUZZ_SECONDS)
fuzzers: $(FUZZERS)

BENCH := $(patsubst %.c,$(BUILD)/%,$(wildcard bench/*.c))
$(BENCH): $(BUILD)/bench/%: $(BUILD)/obj/bench/%.o
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $< -lzstd

bench: deps all $(BENCH)
	@tools/deps.sh bench
	@SOSIE_BIN="$(abspath $(BUILD))" bench/run.sh

# --- sources -----------------------------------------------------------------------------------------------------------
lint:
	@tools/deps.sh check lint
	@tests/lint

format-check:
	@tools/deps.sh lint
	@tests/lint format

format:
	@tools/deps.sh lint
	@tests/lint reformat

# --- installing --------------------------------------------------------------------------------------------------------
install: all
	install -d "$(DESTDIR)$(PREFIX)/bin"
	install -m 755 $(addprefix $(BUILD)/,$(PROGRAMS)) "$(DESTDIR)$(PREFIX)/bin"
	install -m 755 tools/setup-standby "$(DESTDIR)$(PREFIX)/bin/sosie-setup-standby"
	$(foreach m,$(MAN),install -D -m 644 $(m) "$(DESTDIR)$(PREFIX)/share/man/man$(subst .,,$(suffix $(m)))/$(notdir $(m))" && ) true
	install -d "$(DESTDIR)$(PREFIX)/lib/systemd/system" "$(DESTDIR)$(PREFIX)/share/doc/sosie"
	for unit in units/*.service; do sed 's|/usr/local/bin/|$(PREFIX)/bin/|' "$$unit" >"$(DESTDIR)$(PREFIX)/lib/systemd/system/$$(basename "$$unit")"; done
	install -m 644 docs/sosie.yaml.example docs/operating.md docs/security.md "$(DESTDIR)$(PREFIX)/share/doc/sosie"

clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
.PHONY: all tests deps demo check check-full check-vm soak check-asan check-tsan cov fuzz fuzzers bench lint format-check format install clean
.SECONDARY:
