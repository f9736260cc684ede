# UsageBox: build, test, demo. `make help` lists the targets.
SHELL := /bin/bash
BUILD ?= build
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
CC ?= gcc
CXX ?= g++

WARN := -Wall -Wextra -Wconversion -Wshadow -Werror
# tests/hardening.sh reads from the binary whether these got there.
HARDEN := -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fstack-clash-protection -fPIC \
          $(if $(filter x86_64,$(shell uname -m)),-fcf-protection=full)
VERSION ?= 0.1.0
PG_INCLUDE := $(shell pg_config --includedir)
CPPFLAGS += -D_GNU_SOURCE -DUSAGEBOX_VERSION='"$(VERSION)"' -iquote . -iquote consumer -iquote rollup -isystem $(PG_INCLUDE)
CFLAGS += -std=gnu11 -O2 -g $(WARN) $(HARDEN)
CXXFLAGS += -std=c++17 -O2 -g -Wall -Wextra -Wshadow -Werror -fno-exceptions -fno-rtti $(HARDEN)
LDFLAGS += -pie -Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code
CORE_LIBS := -ljansson -lsimdjson -lsodium -lm
LIBS := -lrdkafka -lpq -lyaml -lmicrohttpd $(CORE_LIBS) -lstdc++ -lpthread

# The pure core: memory only. tests/purity.sh holds its symbols against the list of what it may touch.
CORE := consumer/event% consumer/document% consumer/timestamp consumer/sentence consumer/dedupe% consumer/former consumer/block_pool consumer/json_load \
        consumer/partitioner consumer/identity consumer/siphash% \
        consumer/ceiling% consumer/flag% consumer/lookup consumer/rows consumer/intern consumer/arena consumer/pipeline consumer/lane% consumer/intake \
        consumer/settle consumer/rehome consumer/recover consumer/batching consumer/takeover consumer/probing consumer/enforce \
        rollup/decimal rollup/accumulator rollup/batch rollup/batch_memory rollup/row_queue rollup/row_sort rollup/copy rollup/json_text
SOURCES := $(basename $(wildcard consumer/*.c consumer/*.cc rollup/*.c))
CORE_OBJ := $(addsuffix .o,$(filter $(CORE),$(SOURCES)))
SHELL_OBJ := $(addsuffix .o,$(filter-out $(CORE) consumer/main,$(SOURCES)))
UNIT_SHARED := $(patsubst %.c,%.o,$(filter-out tests/unit/test_%,$(wildcard tests/unit/*.c)))
SIMULATION := $(filter-out tests/simulation/main tests/simulation/starve,$(basename $(wildcard tests/simulation/*.c)))
MIGRATIONS := $(sort $(wildcard schema/*.sql))

.PHONY: all help
# V=1 shows each command
ifndef V
.SILENT:
endif
all: usagebox

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# says what is made, and makes room for it
begin = $(info $@)mkdir -p $(@D)
# Calls that tests let fail: $(1)/libshell-without-… below.
RD_KAFKA_FAILING := subscribe assign queue_get_partition consume_batch_queue metadata query_watermark_offsets topic_new \
                    new commit_queue consume_start_queue topic_conf_set producev consumer_close_queue
PQ_FAILING := connectdbParams exec execParams sendQueryParams setSingleRowMode getResult putCopyData putCopyEnd

# $(1): a build's folder, $(2): its extra flags
define build-rules
$(1)/%.o: %.c Makefile
	$$(begin)
	$$(CC) $$(CPPFLAGS) $$(CFLAGS) $(2) -MMD -MP -c $$< -o $$@
$(1)/%.o: %.cc Makefile
	$$(begin)
	$$(CXX) $$(CPPFLAGS) $$(CXXFLAGS) $(2) -MMD -MP -c $$< -o $$@
$(1)/migrations.o: $(1)/migrations.c Makefile
	$$(begin)
	$$(CC) $$(CPPFLAGS) $$(CFLAGS) $(2) -c $$< -o $$@
$(1)/migrations.c: $$(MIGRATIONS) schema/embed.sh
	$$(begin)
	schema/embed.sh $$(MIGRATIONS) > $$@
$(1)/libcore.a: $$(addprefix $(1)/,$$(CORE_OBJ))
	$$(begin)
	rm -f $$@ && ar rcs $$@ $$^
$(1)/libshell.a: $$(addprefix $(1)/,$$(SHELL_OBJ)) $(1)/migrations.o
	$$(begin)
	rm -f $$@ && ar rcs $$@ $$^
$(1)/usagebox: $(1)/consumer/main.o $(1)/libshell.a $(1)/libcore.a
	$$(begin)
	$$(CC) $$(LDFLAGS) $(2) $$^ $$(LIBS) -o $$@
# What several test programs share.
$(1)/libunit.a: $$(addprefix $(1)/,$$(UNIT_SHARED))
	$$(begin)
	rm -f $$@ && ar rcs $$@ $$^
# The core with its allocations in the hands of a test: tests/unit/failing_memory.h.
$(1)/libcore-failing.a: $(1)/libcore.a
	$$(begin)
	objcopy $$(foreach f,malloc calloc realloc reallocarray free mmap munmap,--redefine-sym $$(f)=failing_$$(f)) $$< $$@
$(1)/unit/%_memory: $(1)/tests/unit/%_memory.o $(1)/libunit.a $(1)/libshell.a $(1)/libcore-failing.a
	$$(begin)
	$$(CC) $(2) -Wl,--wrap=arena_init,--wrap=arena_reset $$^ -lcheck -lsubunit -lrt $$(CORE_LIBS) -lstdc++ -lpthread -o $$@
$(1)/bench/%: $(1)/tests/bench/%.o $(1)/tests/bench/counting_memory.o $(1)/libshell.a $(1)/libcore-failing.a
	$$(begin)
	$$(CC) $$(LDFLAGS) $(2) $$^ $$(LIBS) -o $$@
# A shell whose calls of libpq and librdkafka are in the hands of a test.
$(1)/libshell-without-pq.a: $(1)/libshell.a
	objcopy $$(foreach f,$$(PQ_FAILING),--redefine-sym PQ$$(f)=failing_PQ$$(f)) $$< $$@
$(1)/libshell-without-kafka.a: $(1)/libshell.a
	objcopy $$(foreach f,$$(RD_KAFKA_FAILING),--redefine-sym rd_kafka_$$(f)=failing_rd_kafka_$$(f)) $$< $$@
$(1)/integration/kafka_failing_test: $(1)/tests/integration/kafka_failing_test.o $(1)/libunit.a $(1)/libshell-without-kafka.a $(1)/libcore.a
	@mkdir -p $$(@D)
	$$(CC) $(2) $$^ -lcheck -lsubunit -lrt $$(LIBS) -o $$@
$(1)/integration/store_failing_test: $(1)/tests/integration/store_failing_test.o $(1)/tests/integration/store_fixture.o \
                                     $(1)/libunit.a $(1)/libshell-without-pq.a $(1)/libcore.a
	@mkdir -p $$(@D)
	$$(CC) $(2) $$^ -lcheck -lsubunit -lrt $$(LIBS) -o $$@
$(1)/integration/store_%: $(1)/tests/integration/store_%.o $(1)/tests/integration/store_fixture.o $(1)/libunit.a \
                          $(1)/libshell.a $(1)/libcore.a
	$$(begin)
	$$(CC) $(2) $$^ -lcheck -lsubunit -lrt $$(LIBS) -o $$@
$(1)/integration/%: $(1)/tests/integration/%.o $(1)/libshell.a $(1)/libcore.a
	$$(begin)
	$$(CC) $(2) $$^ -lcheck -lsubunit -lrt $$(LIBS) -o $$@
# A whole deployment of fakes; its user brings main().
$(1)/libsimulation.a: $$(addprefix $(1)/,$$(addsuffix .o,$$(SIMULATION)))
	$$(begin)
	rm -f $$@ && ar rcs $$@ $$^
$(1)/simulate: $(1)/tests/simulation/main.o $(1)/libsimulation.a $(1)/libcore.a
	$$(begin)
	$$(CC) $(2) $$^ $$(CORE_LIBS) -lstdc++ -o $$@
# The world keeps its memory, its processes lose theirs: tests/simulation/starve.c.
$(1)/libsimulation-failing.a: $(1)/libsimulation.a
	objcopy $$(foreach f,malloc calloc realloc reallocarray free strndup,--redefine-sym $$(f)=failing_$$(f)) \
	    $$(foreach f,new turn,--redefine-sym pipeline_$$(f)=starved_pipeline_$$(f)) $$< $$@
$(1)/starve: $(1)/tests/simulation/starve.o $(1)/libunit.a $(1)/libsimulation-failing.a $(1)/libcore-failing.a
	$$(CC) $(2) -Wl,--wrap=arena_init,--wrap=arena_reset $$^ $$(CORE_LIBS) -lstdc++ -o $$@
# Fuzzers that run files which there are: tests/fuzz/replay.c. Those of libFuzzer are below.
$(1)/fuzz/%: $(1)/tests/fuzz/%.o $(1)/tests/fuzz/replay.o $(1)/libunit.a $(1)/libsimulation.a $(1)/libshell.a $(1)/libcore.a
	$$(begin)
	$$(CC) $(2) $$^ $$(LIBS) -o $$@
$(1)/unit/%: $(1)/tests/unit/%.o $(1)/libunit.a $(1)/libshell.a $(1)/libcore.a
	$$(begin)
	$$(CC) $(2) $$^ -lcheck -lsubunit -lrt $$(LIBS) -o $$@
-include $$(shell find $(1) -name '*.d' 2>/dev/null)
endef
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -O1
$(eval $(call build-rules,$(BUILD)/release,))
$(eval $(call build-rules,$(BUILD)/asan,$(SANITIZE)))
$(eval $(call build-rules,$(BUILD)/tsan,-fsanitize=thread -O1))

usagebox: $(BUILD)/release/usagebox ## build ./usagebox
	ln -sf $< $@

# $(1): what comes now
part = @printf '\n== %s\n' '$(1)'

UNIT := $(patsubst tests/unit/%.c,$(BUILD)/asan/unit/%,$(wildcard tests/unit/test_*.c))
THREADED := $(addprefix $(BUILD)/tsan/unit/,test_writer test_http test_log)
unit: $(UNIT) $(THREADED) $(BUILD)/asan/simulate $(BUILD)/asan/starve purity hardening ## purity, hardening, unit tests under sanitizers, a slice of the simulation
	$(call part,unit tests under ASan and UBSan)
	@set -e; for t in $(UNIT); do $$t; done
	$(call part,unit tests that have threads under TSan)
	@set -e; for t in $(THREADED); do $$t; done
	$(call part,simulation: 60 deployments that are always the same and 40 more each day)
	@$(BUILD)/asan/simulate 1 60
	@$(BUILD)/asan/simulate $$(date -u +%Y%m%d000) 40
	@$(BUILD)/asan/starve 1 150
	@$(BUILD)/asan/starve $$(date -u +%Y%m%d) 150

purity: $(BUILD)/release/libcore.a ## prove that the core touches memory only
	$(call part,purity)
	@CC='$(CC)' tests/purity.sh $<
hardening: usagebox ## read from the binary that it is built to resist attacks
	$(call part,hardening)
	@tests/hardening.sh $(BUILD)/release/usagebox
.PHONY: purity hardening

SECONDS ?= 60
SEED ?= 1
simulate: $(BUILD)/release/simulate ## whole deployments from seeds, for SECONDS=60 from SEED=1 on
	$< $(SEED) 0 $(SECONDS)
starve: $(BUILD)/asan/starve ## every allocation of the core failing in turn, in a simulated deployment of SEED=1
	$< $(SEED)
.PHONY: simulate starve

# libFuzzer is clang's. Of the shell, only the parser of the configuration is fuzzed.
FUZZERS := decoder copy decimal dedupe config pipeline
FUZZED := $(addsuffix .o,$(filter consumer/config% consumer/yaml_tree consumer/units consumer/nearest \
          consumer/printable consumer/kafka_options consumer/log,$(SOURCES)))
CLANG ?= clang-14
LIBFUZZER := $(BUILD)/libfuzzer
$(LIBFUZZER)/%: CC = $(CLANG)
$(LIBFUZZER)/%: CXX = $(patsubst clang%,clang++%,$(CLANG))
$(LIBFUZZER)/%: WARN = -Wall -Wextra
$(LIBFUZZER)/%: HARDEN =
$(eval $(call build-rules,$(LIBFUZZER),$(SANITIZE) -fsanitize=fuzzer-no-link))
$(LIBFUZZER)/libfuzzed.a: $(addprefix $(LIBFUZZER)/,$(FUZZED))
	rm -f $@ && ar rcs $@ $^
$(addprefix $(LIBFUZZER)/,$(FUZZERS)): $(LIBFUZZER)/%: $(LIBFUZZER)/tests/fuzz/%.o $(LIBFUZZER)/libunit.a $(LIBFUZZER)/libsimulation.a \
                                       $(LIBFUZZER)/libfuzzed.a $(LIBFUZZER)/libcore.a
	$(CC) $(SANITIZE) -fsanitize=fuzzer $^ $(LIBS) -o $@
clang-has-fuzzer:
	@tests/fuzz/clang.sh $(CLANG)
fuzz: clang-has-fuzzer $(addprefix $(LIBFUZZER)/,$(FUZZERS)) ## each fuzzer for SECONDS=60 from SEED=1 on, beginning with what it found before
	@tests/fuzz/run.sh $(LIBFUZZER) $(SECONDS) $(SEED) $(FUZZERS)
fuzz-slice: clang-has-fuzzer $(addprefix $(LIBFUZZER)/,$(FUZZERS))
	$(call part,fuzzers: their corpus and two seconds each)
	@tests/fuzz/run.sh $(LIBFUZZER) 2 $$(date -u +%Y%m%d) $(FUZZERS)
.PHONY: clang-has-fuzzer fuzz fuzz-slice

chaos: SECONDS = 120
chaos: usagebox ## break a real deployment for SECONDS=120 from SEED=1 on; BROKERS=1 or 3, USAGEBOX=build/asan/usagebox
	/usr/bin/python3 tests/chaos/chaos.py --seconds $(SECONDS) --seed $(SEED) $(if $(BROKERS),--brokers $(BROKERS)) $(ARGS)
.PHONY: chaos

BENCHES := $(addprefix $(BUILD)/release/bench/,decode decide dedupe_bench)
benches: $(BENCHES) # that they compile
bench: usagebox benches ## speed beside bare COPY, latency; BENCH_EVENTS, BENCH_ROUNDS; ARGS goes to tests/bench/bench.py
	/usr/bin/python3 tests/bench/bench.py $(ARGS)
.PHONY: bench benches
profile: usagebox ## where a drain spends its time, by thread and function; wants perf
	/usr/bin/python3 tests/bench/profile.py $(ARGS)
.PHONY: profile
bench-dedupe: $(BUILD)/release/bench/dedupe_bench ## time and memory of dedupe by key
	$<
.PHONY: bench-dedupe

# Of the core, run by all that runs it in one process. The failing side of an assertion is no branch to be taken.
$(eval $(call build-rules,$(BUILD)/coverage,--coverage -O0))
$(BUILD)/coverage/%: HARDEN =
COVERED := $(patsubst tests/unit/%.c,$(BUILD)/coverage/unit/%,$(wildcard tests/unit/test_*.c))
coverage: $(COVERED) $(BUILD)/coverage/simulate $(BUILD)/coverage/starve $(addprefix $(BUILD)/coverage/fuzz/,$(FUZZERS)) ## branch coverage of the core, file by file, by unit tests, corpora and 60 simulated deployments
	@find $(BUILD)/coverage -name '*.gcda' -delete
	@set -e; for t in $(COVERED); do ROUNDS=20000 $$t >$(BUILD)/coverage/log || { cat $(BUILD)/coverage/log; exit 1; }; done
	@set -e; for f in $(FUZZERS); do $(BUILD)/coverage/fuzz/$$f tests/fuzz/corpus/$$f; done
	@$(BUILD)/coverage/simulate 1 60
	@for seed in 1 2 3 4; do $(BUILD)/coverage/starve $$seed 300 || exit 1; done
	@gcovr --root . --object-directory $(BUILD)/coverage $(foreach s,$(CORE_OBJ:.o=),--filter '$(s)\.cc?$$') \
	    --exclude-branches-by-pattern '^ *assert\(' --branches --fail-under-branch 95 $(ARGS)
.PHONY: coverage

valgrind: usagebox ## a whole run under valgrind: no invalid access, no leak
	USAGEBOX=tests/valgrind.sh $(PYTEST) -x tests/integration/test_memory.py
.PHONY: valgrind

# Debian's own Python, for which install-deps.sh installs the clients
PYTEST := PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -m pytest

deps: ## install what building, demo and tests need (Debian 12)
	deploy/install-deps.sh build demo test fuzz

demo: ## count, bill and enforce 100,000 events on private servers; KEEP=1 leaves them, KAFKA= and DSN= name yours
	@KEEP='$(KEEP)' KAFKA='$(KAFKA)' DSN='$(DSN)' deploy/demo.sh
.PHONY: demo

# so many tests at a time, each on servers of its own: they mostly wait
TEST_JOBS ?= 3
STORE_TESTS := $(patsubst tests/integration/%.c,$(BUILD)/asan/integration/%,$(wildcard tests/integration/*_test.c)) \
               $(BUILD)/tsan/integration/store_links_test
integration: usagebox $(STORE_TESTS) ## tests against a real Kafka and PostgreSQL; ARGS goes to pytest
	$(call part,integration tests)
	$(PYTEST) -n $(TEST_JOBS) --dist loadgroup tests $(ARGS)

mutants: ## plant realistic bugs, one at a time, and show which test catches each; ARGS picks some by name
	nice tests/mutants/mutants.py $(ARGS)
mutants-fit: # is each bug's place still there?
	@tests/mutants/mutants.py --check
.PHONY: mutants mutants-fit

test: ## install what is missing, then unit and integration tests
	deploy/install-deps.sh build test fuzz
	$(MAKE) -j$$(nproc) usagebox mutants-fit unit fuzz-slice benches
	$(MAKE) -j$$(nproc) integration

C_FILES = $(wildcard consumer/*.[ch] rollup/*.[ch] consumer/*.cc tests/*/*.[ch])
TIDY = $(addprefix tidy/,$(wildcard consumer/*.c rollup/*.c))
lint: $(TIDY) ## clang-format, clang-tidy, cppcheck, shellcheck
	clang-format --dry-run -Werror $(C_FILES)
	cppcheck --quiet --error-exitcode=1 --inline-suppr --enable=warning,performance,portability \
	    --suppress=missingIncludeSystem -I. -Iconsumer -Irollup $(filter %.c,$(C_FILES))
	shellcheck deploy/*.sh schema/*.sh $(wildcard tests/*.sh) .ci/run
format: ## lay all C out as .clang-format says
	clang-format -i $(C_FILES)
$(TIDY): tidy/%:
	clang-tidy --quiet $* -- $(CPPFLAGS) -std=gnu11 2> >(grep -v 'warnings* generated' >&2)

install: usagebox ## install below PREFIX (/usr/local) and SYSCONFDIR (/etc), all below DESTDIR
	install -D -m 755 usagebox $(DESTDIR)$(PREFIX)/bin/usagebox
	install -d $(DESTDIR)$(PREFIX)/share/usagebox/schema $(DESTDIR)$(PREFIX)/share/doc/usagebox $(DESTDIR)$(SYSCONFDIR)/usagebox
	install -m 644 schema/*.json $(DESTDIR)$(PREFIX)/share/usagebox/schema
	install -m 644 README.md LICENSE config.yaml $(DESTDIR)$(PREFIX)/share/doc/usagebox
	@# an operator's own configuration stays
	test -e $(DESTDIR)$(SYSCONFDIR)/usagebox/config.yaml || \
	    install -m 640 config.yaml $(DESTDIR)$(SYSCONFDIR)/usagebox/config.yaml

clean: ## remove what was built
	rm -rf $(BUILD) usagebox
.PHONY: unit clean deps integration test lint format install $(TIDY)
.SECONDARY:
