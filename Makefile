# UsageBox: build, test, demo. `make help` lists the targets.
SHELL := /bin/bash
BUILD ?= build
PREFIX ?= /usr/local
CC ?= gcc
CXX ?= g++

WARN := -Wall -Wextra -Wconversion -Wshadow -Werror
HARDEN := -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIC
CPPFLAGS += -D_GNU_SOURCE -I. -Iconsumer -Irollup
CFLAGS += -std=gnu11 -O2 -g $(WARN) $(HARDEN)
CXXFLAGS += -std=c++17 -O2 -g -Wall -Wextra -Wshadow -Werror -fno-exceptions -fno-rtti $(HARDEN)
LDFLAGS += -pie -Wl,-z,relro,-z,now
CORE_LIBS := -ljansson -lsimdjson -lsodium -lm
LIBS := -lrdkafka -lpq -lyaml -lmicrohttpd $(CORE_LIBS) -lstdc++ -lpthread

# The pure core: memory only. tests/purity.sh holds its symbols against the list of what it may touch.
CORE := consumer/event consumer/event_decode consumer/dedupe consumer/partitioner consumer/identity \
        consumer/ceiling consumer/flag consumer/arena consumer/pipeline consumer/lane consumer/intake \
        consumer/settle consumer/takeover consumer/enforce \
        rollup/decimal rollup/accumulator rollup/batch rollup/copy
SOURCES := $(basename $(wildcard consumer/*.c consumer/*.cc rollup/*.c))
CORE_OBJ := $(addsuffix .o,$(filter $(CORE),$(SOURCES)))
SHELL_OBJ := $(addsuffix .o,$(filter-out $(CORE) consumer/main,$(SOURCES)))
MIGRATIONS := $(sort $(wildcard schema/*.sql))

.PHONY: all help
all: usagebox

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# $(1): a build's folder, $(2): its extra flags
define build-rules
$(1)/%.o: %.c Makefile
	@mkdir -p $$(@D)
	$$(CC) $$(CPPFLAGS) $$(CFLAGS) $(2) -MMD -MP -c $$< -o $$@
$(1)/%.o: %.cc Makefile
	@mkdir -p $$(@D)
	$$(CXX) $$(CPPFLAGS) $$(CXXFLAGS) $(2) -MMD -MP -c $$< -o $$@
$(1)/migrations.o: $(1)/migrations.c
	$$(CC) $$(CPPFLAGS) $$(CFLAGS) $(2) -c $$< -o $$@
$(1)/migrations.c: $$(MIGRATIONS) schema/embed.sh
	@mkdir -p $$(@D)
	schema/embed.sh $$(MIGRATIONS) > $$@
$(1)/libcore.a: $$(addprefix $(1)/,$$(CORE_OBJ))
	rm -f $$@ && ar rcs $$@ $$^
$(1)/libshell.a: $$(addprefix $(1)/,$$(SHELL_OBJ)) $(1)/migrations.o
	rm -f $$@ && ar rcs $$@ $$^
$(1)/usagebox: $(1)/consumer/main.o $(1)/libshell.a $(1)/libcore.a
	$$(CC) $$(LDFLAGS) $(2) $$^ $$(LIBS) -o $$@
$(1)/unit/%: $(1)/tests/unit/%.o $(1)/libshell.a $(1)/libcore.a
	@mkdir -p $$(@D)
	$$(CC) $(2) $$^ -lcheck -lsubunit -lrt $$(LIBS) -o $$@
-include $$(shell find $(1) -name '*.d' 2>/dev/null)
endef
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -O1
$(eval $(call build-rules,$(BUILD)/release,))
$(eval $(call build-rules,$(BUILD)/asan,$(SANITIZE)))
$(eval $(call build-rules,$(BUILD)/tsan,-fsanitize=thread -O1))

usagebox: $(BUILD)/release/usagebox ## build ./usagebox
	ln -sf $< $@

UNIT := $(patsubst tests/unit/%.c,$(BUILD)/asan/unit/%,$(wildcard tests/unit/test_*.c))
unit: $(UNIT) ## unit tests under ASan and UBSan
	@set -e; for t in $^; do $$t; done

clean: ## remove what was built
	rm -rf $(BUILD) usagebox
.PHONY: unit clean
.SECONDARY:
