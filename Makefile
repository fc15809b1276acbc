# SPDX-License-Identifier: Apache-2.0
#
# make            build the programs and the agent               make run      install what is missing, boot, run a command
# make guest      build the kernels and the default image        make check    build everything, run every test
# make kernel-full     a third kernel, for containers in a guest (wisp run --kernel full)
# make check-programs  run programs of others in a guest         make check-intel  test on emulated Intel processors
# make check-kernels   run the end-to-end cases on the kernels of other Debian releases
# make check-full      docker, podman, file systems and IPv6 in guests with that kernel
# make check-containers  sandboxes in containers, units of systemd and under SELinux, and where hosts forbid parts of the jail
# make deb             Debian packages; make check-deb tries them        make dist     the sources as a tarball
# make ARCH=arm64 deb  the same for arm64, after make deps-arm64
# make soak            hours of snapshots, restores and forks in the emulated host
# make deps-arm64      what builds for arm64 on another machine    make ARCH=arm64  the programs for it, in build-arm64
# make check-arm64     builds them and their guest, and tests both in an emulated host; make check-arm64-e2e runs all cases there
# make lint       format, include edges, no writable globals     make bench    measure the figures of docs/ on this machine
#                                                                make install  PREFIX=/usr/local
#
# SAN=address,undefined or SAN=thread builds with sanitizers, into a folder of its own. QUIET=1 does not name each file.

# The processor that the programs and the guest are built for, as uname -m prints it. Names a folder of vmm/monitor. Where
# it is not this machine's, Debian's cross compiler builds, with the libraries that `make deps-arm64` has unpacked.
MACHINE := $(shell uname -m)
ARCH ?= $(MACHINE)
override ARCH := $(patsubst arm64,aarch64,$(ARCH))
CROSS := $(if $(filter-out $(MACHINE),$(ARCH)),$(ARCH)-linux-gnu-)

SAN ?=
B ?= build$(if $(CROSS),-$(patsubst aarch64,arm64,$(ARCH)))$(if $(SAN),-$(firstword $(subst $(comma), ,$(SAN))))
comma := ,
PREFIX ?= /usr/local
# Of the library; a Debian package has it in a directory of its processor's.
LIBDIR ?= $(PREFIX)/lib
# Of zsh's completions: Debian's packages have a directory of their own.
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
SO := libwisp.so.$(shell sed -nE 's/^\#define WISP_SO_VERSION //p' include/wisp.h)
VERSION := $(shell sed -nE 's/^\#define WISP_VERSION_(MAJOR|MINOR|PATCH) //p' include/wisp.h | paste -sd .)

CC ?= gcc
OBJCOPY ?= $(CROSS)objcopy
MUSL_CC ?= musl-gcc
MUSL_HEADERS := -idirafter /usr/include -idirafter /usr/include/$(MACHINE)-linux-gnu
ifneq ($(CROSS),)
SYSROOT ?= $(abspath build-arm64/sysroot)
$(if $(wildcard $(SYSROOT)/packages),,$(error ARCH=$(ARCH) needs Debian's cross compiler and libraries: make deps-arm64))
CC := $(CROSS)gcc -B$(SYSROOT)/usr/lib/$(ARCH)-linux-gnu -idirafter $(SYSROOT)/usr/include
AR := $(CROSS)ar
MUSL_CC := $(SYSROOT)/musl-gcc
MUSL_HEADERS := -idirafter $(SYSROOT)/usr/include -idirafter /usr/$(ARCH)-linux-gnu/include
endif
WARN := -Wall -Wextra -Wshadow -Wcast-qual -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wpointer-arith -Wundef \
        -Wformat=2 -Wno-format-nonliteral -Wno-format-truncation -Werror
CPPFLAGS := -D_GNU_SOURCE -DWISP_PREFIX='"$(PREFIX)"' -I. -Iinclude
CFLAGS ?= -O2 -g
ALL_CFLAGS = -std=gnu11 $(WARN) $(CFLAGS) -fno-strict-aliasing -fvisibility=hidden -fstack-protector-strong \
             $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all)
# Linked statically: a program that links the library needs nothing but libc.
ZSTD := -l:libzstd.a
ALL_LDFLAGS = $(LDFLAGS) $(if $(SAN),-fsanitize=$(SAN)) -Wl,-z,relro,-z,now

shared_src := $(wildcard vmm/shared/*.c)
monitor_src := $(filter-out vmm/monitor/main.c,$(wildcard vmm/monitor/*.c vmm/monitor/$(ARCH)/*.c)) $(shared_src)
virtio_src := $(wildcard virtio/*.c)
lib_src := $(wildcard vmm/lib/*.c) $(shared_src)
cli_src := $(wildcard vmm/cli/*.c)
fs_src := $(filter-out vmm/fs/main.c,$(wildcard vmm/fs/*.c)) $(addprefix vmm/shared/,confine.c fs_wire.c jail_program.c)
bench_src := $(filter-out vmm/bench/guest.c $(filter-out vmm/bench/floor_$(ARCH).c,$(wildcard vmm/bench/floor_*.c)),$(wildcard vmm/bench/*.c))
proxy_src := $(filter-out vmm/proxy/main.c,$(wildcard vmm/proxy/*.c)) $(addprefix vmm/shared/,egress.c confine.c jail_program.c)
agent_src := $(filter-out agent/main.c $(filter-out agent/power_$(ARCH).c,$(wildcard agent/power_*.c)),$(wildcard agent/*.c)) \
             vmm/shared/proto.c
# Tests of what only one processor has.
unit_of_x86_64 := boot cpuid ioapic processor tsc
unit_of_aarch64 := arm64
unit_of_others := $(foreach arch,$(filter-out $(ARCH),x86_64 aarch64),$(unit_of_$(arch)))
unit_src := $(filter-out $(unit_of_others:%=tests/unit/test_%.c),$(wildcard tests/unit/*.c))
fuzz_src := $(filter-out tests/fuzz/replay.c,$(wildcard tests/fuzz/*.c))

obj = $(patsubst %.c,$(B)/obj/%.o,$(1))

W := $(B)/lib/wisp
PROGRAMS := $(B)/bin/wisp $(W)/wisp-vmm $(W)/wisp-proxy $(W)/wisp-fs $(W)/wisp-bench $(W)/bench-guest $(B)/lib/libwisp.so $(B)/lib/libwisp.a
# What `make guest` builds, and `make install` and `make deb` pack.
GUEST_KERNELS ?= up smp
GUEST := $(GUEST_KERNELS:%=$(W)/vmlinux-%) $(W)/initramfs.cpio $(W)/base.squashfs
# What a sandbox with one processor needs: `make run` must not take the minutes of a second kernel.
RUN := $(W)/vmlinux-up $(W)/base.squashfs $(W)/initramfs.cpio $(B)/bin/wisp $(W)/wisp-vmm $(W)/wisp-proxy $(W)/wisp-fs

.PHONY: man native all guest kernel-full deps deps-run run check quick bench ablation lint format install clean
all: $(PROGRAMS) $(W)/initramfs.cpio
guest: $(GUEST)
# Takes a quarter of an hour of processor time, so it is part of nothing else.
kernel-full: $(W)/vmlinux-full

# One line for each step. V=1 shows the commands.
ifneq ($(V),1)
.SILENT:
endif
step = $(if $(QUIET),:,echo "  $(1) $@")
# For a make that a recipe runs: all processors, unless you said how many.
parallel = $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc))

.DELETE_ON_ERROR:
.SECONDARY:

$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call step,CC)
	$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -fPIC -MMD -MP -c $< -o $@

-include $(patsubst %.c,$(B)/musl/%.d,vmm/monitor/main.c $(monitor_src) $(virtio_src) vmm/proxy/main.c $(proxy_src) vmm/fs/main.c $(fs_src))
-include $(patsubst %.c,$(B)/obj/%.d,$(monitor_src) vmm/monitor/main.c $(virtio_src) vmm/fs/main.c $(fs_src) $(lib_src) $(cli_src) $(bench_src) vmm/proxy/main.c $(proxy_src) $(agent_src) $(unit_src) $(fuzz_src) \
  $(wildcard tests/payload/test_*.c) $(wildcard tests/faults/*.c) tests/agent/agent_host.c tests/e2e/exec_load.c)

$(B)/libmonitor.a: $(call obj,$(monitor_src) $(virtio_src))
	rm -f $@ && $(AR) rcs $@ $^
$(B)/libagent.a: $(call obj,$(agent_src))
	rm -f $@ && $(AR) rcs $@ $^
$(B)/libproxy.a: $(call obj,$(proxy_src))
	rm -f $@ && $(AR) rcs $@ $^
$(B)/libfs.a: $(call obj,$(fs_src))
	rm -f $@ && $(AR) rcs $@ $^
$(B)/libcli.a: $(call obj,$(filter-out vmm/cli/main.c,$(cli_src)))
	rm -f $@ && $(AR) rcs $@ $^
$(B)/libbench.a: $(call obj,$(filter-out vmm/bench/main.c,$(bench_src)))
	rm -f $@ && $(AR) rcs $@ $^

# --- the host's side ---

# Both programs are static: a dynamic loader would be most of what their start costs. Each sandbox has a monitor process,
# which linked with musl takes a sixth of the memory that it takes with glibc. The sanitizers require glibc.
STATIC := $(if $(SAN),,-static)
MUSL_CFLAGS = -std=gnu11 $(WARN) -fno-strict-aliasing -ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables \
              $(MUSL_HEADERS)
MUSL_LDFLAGS = -static -Wl,--gc-sections -Wl,-z,relro,-z,now

$(B)/musl/%.o: %.c
	@mkdir -p $(@D)
	$(call step,CC)
	$(MUSL_CC) $(CPPFLAGS) $(MUSL_CFLAGS) $(CFLAGS) -fstack-protector-strong -MMD -MP -c $< -o $@

# For sanitized builds.
NO_LEAK_CHECK := $(call obj,tests/no_leak_check.c)

ifeq ($(SAN),)
$(W)/wisp-vmm: $(patsubst %.c,$(B)/musl/%.o,vmm/monitor/main.c $(monitor_src) $(virtio_src))
	@mkdir -p $(@D)
	$(call step,LD)
	$(MUSL_CC) $(MUSL_LDFLAGS) $^ "$$($(CC) -print-file-name=liburing.a)" -o $@
# A static program with glibc could not resolve names.
$(W)/wisp-proxy: $(patsubst %.c,$(B)/musl/%.o,vmm/proxy/main.c $(proxy_src))
	@mkdir -p $(@D)
	$(call step,LD)
	$(MUSL_CC) $(MUSL_LDFLAGS) $^ -o $@
else
$(W)/wisp-vmm: $(call obj,vmm/monitor/main.c) $(B)/libmonitor.a
	@mkdir -p $(@D)
	$(call step,LD)
	$(CC) $(ALL_LDFLAGS) $^ -luring -lpthread -o $@
$(W)/wisp-proxy: $(call obj,vmm/proxy/main.c) $(B)/libproxy.a $(NO_LEAK_CHECK)
	@mkdir -p $(@D)
	$(call step,LD)
	$(CC) $(ALL_LDFLAGS) $^ -lpthread -o $@
endif

# Each shared folder has one of these.
ifeq ($(SAN),)
$(W)/wisp-fs: $(patsubst %.c,$(B)/musl/%.o,vmm/fs/main.c $(fs_src))
	@mkdir -p $(@D)
	$(call step,LD)
	$(MUSL_CC) $(MUSL_LDFLAGS) -s $^ -o $@
else
$(W)/wisp-fs: $(call obj,vmm/fs/main.c) $(B)/libfs.a $(NO_LEAK_CHECK)
	@mkdir -p $(@D)
	$(call step,LD)
	$(CC) $(ALL_LDFLAGS) $^ -o $@
endif

# One object that keeps its own names to itself, so that a program that links it may have a config_read too. Unit tests,
# which call what is inside, take the objects as they are.
$(B)/lib/libwisp.a: $(call obj,$(lib_src))
	@mkdir -p $(@D)
	$(call step,LD)
	$(CC) -r -nostdlib $^ $(ZSTD) -o $(B)/lib/libwisp.o
	$(OBJCOPY) --wildcard --keep-global-symbol='wisp_*' $(B)/lib/libwisp.o
	rm -f $@ && $(AR) rcs $@ $(B)/lib/libwisp.o
$(B)/libwisp-internal.a: $(call obj,$(lib_src))
	rm -f $@ && $(AR) rcs $@ $^

$(B)/lib/$(SO): $(call obj,$(lib_src)) vmm/lib/libwisp.map
	@mkdir -p $(@D)
	$(call step,LD)
	$(CC) $(ALL_LDFLAGS) -shared -Wl,-soname,$(SO) -Wl,--version-script=vmm/lib/libwisp.map \
	    $(if $(SAN),,-Wl,-z,defs) $(call obj,$(lib_src)) $(ZSTD) -o $@
$(B)/lib/libwisp.so: $(B)/lib/$(SO)
	ln -sf $(SO) $@

# Linked with the library's separate objects, so what a program does not call is not in it.
$(B)/bin/wisp: $(call obj,vmm/cli/main.c) $(B)/libcli.a $(B)/libwisp-internal.a
	@mkdir -p $(@D)
	$(call step,LD)
	$(CC) $(STATIC) $(ALL_LDFLAGS) $^ $(ZSTD) -o $@

# The verb bench is a program of its own, which wisp starts.
$(W)/wisp-bench: $(call obj,vmm/bench/main.c) $(B)/libbench.a $(B)/libcli.a $(B)/libwisp-internal.a
	@mkdir -p $(@D)
	$(call step,LD)
	$(CC) $(STATIC) $(ALL_LDFLAGS) $^ $(ZSTD) -o $@

# The pages take the verbs' options from the command and the calls from the header: nothing is written twice.
MAN := $(B)/man/wisp.1 $(B)/man/libwisp.3
# Pages and completions are what a command prints, and this machine does not run that of another processor.
NATIVE := $(if $(CROSS),$(B)/native,$(B))
man: $(MAN)
$(MAN) &: docs/man/build docs/man/header.awk docs/man/wisp.1.in docs/man/libwisp.3.in include/wisp.h \
  $(if $(CROSS),native,$(B)/bin/wisp $(W)/wisp-bench)
	docs/man/build $(NATIVE)/bin/wisp $(B)/man
native:
	$(MAKE) --no-print-directory ARCH=$(MACHINE) B=$(B)/native CC=gcc CFLAGS=-O2 $(B)/native/bin/wisp $(B)/native/lib/wisp/wisp-bench

EXAMPLES := $(patsubst docs/%.c,$(B)/%,$(wildcard docs/examples/*.c))
$(B)/examples/%: docs/examples/%.c $(B)/lib/libwisp.a include/wisp.h
	@mkdir -p $(@D)
	$(call step,LD)
	$(CC) -std=gnu11 -Wall -Wextra -Werror -Iinclude $(CFLAGS) $(ALL_LDFLAGS) $< $(B)/lib/libwisp.a -o $@

# It runs in the guest, whose image may have no libraries.
$(B)/examples/reseed: ALL_LDFLAGS += $(STATIC)

# --- the guest's side: the agent, static and alone in its initramfs; the kernels; the default image ---

$(B)/agent/init: agent/main.c $(agent_src) $(wildcard agent/*.h vmm/shared/*.h)
	@mkdir -p $(@D)
	$(call step,CC)
	$(MUSL_CC) $(CPPFLAGS) $(MUSL_CFLAGS) -Os $(MUSL_LDFLAGS) -s $(filter %.c,$^) -o $@

$(W)/initramfs.cpio: $(B)/agent/init
	@mkdir -p $(@D)
	touch -d @0 $<
	cd $(<D) && echo init | cpio --quiet -o -H newc -R 0:0 --reproducible > $(abspath $@)

# What wisp-bench runs in the guest.
$(W)/bench-guest: vmm/bench/guest.c vmm/bench/guest.h
	@mkdir -p $(@D)
	$(call step,CC)
	$(MUSL_CC) $(CPPFLAGS) $(MUSL_CFLAGS) -Os $(MUSL_LDFLAGS) -s $< -o $@

# The emulated host of another processor does not see the cache.
link_kernel := $(if $(CROSS),cp -f --remove-destination,ln -sf)
$(W)/vmlinux-%: $(wildcard kernel-config/recipe* kernel-config/boot.functions kernel-config/*.config kernel-config/*.c kernel-config/*.only)
	@mkdir -p $(@D)
	kernel=$$(kernel-config/build --arch $(ARCH) $*) && $(link_kernel) "$$(echo "$$kernel" | tail -n 1)" $@

$(W)/base.squashfs: rootfs/build-default rootfs/build-busybox $(wildcard rootfs/default/etc/*)
	@mkdir -p $(@D)
	$(if $(CROSS),BUSYBOX=$(SYSROOT)/bin/busybox EMULATOR=qemu-aarch64 )rootfs/build-default $@

# An ordinary system as an image, for the tests. It is not part of wisp.
.PHONY: debian
debian: $(B)/debian.squashfs
$(B)/debian.squashfs: rootfs/build-debian
	@mkdir -p $(@D)
	rootfs/build-debian $@

# The image of `make check-programs`.
$(B)/programs.squashfs: rootfs/build-debian rootfs/debian.hook tests/programs/run
	@mkdir -p $(@D)
	rootfs/build-debian $@ $$(tests/programs/run --packages programs)

# That of `make check-full`.
$(B)/containers.squashfs: rootfs/build-debian rootfs/debian.hook tests/programs/run
	@mkdir -p $(@D)
	rootfs/build-debian $@ $$(tests/programs/run --packages containers)

# --- tests ---

UNIT := $(patsubst %.c,$(B)/%,$(unit_src))
# The tests in which threads meet also run under TSan.
UNIT_TSAN := $(filter %_threads %_loop %_loop_ops %_vcpu %_logfile %_echo,$(UNIT))
PAYLOAD_CFLAGS := -std=gnu11 -O1 $(WARN) -ffreestanding -fno-stack-protector -fno-pic -mgeneral-regs-only -nostdlib -static \
                  -no-pie -Wl,--build-id=none
PAYLOAD_CFLAGS_x86_64 := -mno-red-zone -fcf-protection=none -Wl,-Ttext-segment=0x100000
PAYLOAD_CFLAGS_aarch64 := -mstrict-align -Wl,-z,max-page-size=4096 -Wl,-T,tests/payload/payload_aarch64.ld

# Unit tests: one program a file, each linked with all modules.
archives := $(B)/libbench.a $(B)/libcli.a $(B)/libwisp-internal.a $(B)/libmonitor.a $(B)/libagent.a $(B)/libproxy.a $(B)/libfs.a
$(B)/tests/unit/%: $(B)/obj/tests/unit/%.o $(archives)
	@mkdir -p $(@D)
	$(call step,LD)
	$(CC) $(ALL_LDFLAGS) $^ $(ZSTD) -luring -lpthread -lutil -o $@

# The command is inside, and its calls for snapshots are the test's.
$(B)/tests/unit/test_cli_snapshot: ALL_LDFLAGS += $(addprefix -Wl$(comma)--wrap=wisp_,create_sandbox snapshot_sandbox \
  verify_snapshot fork_sandbox pause_sandbox resume_sandbox stop_sandbox get_pause_us writes_disks)

# What the agent allocates, reads and watches for.
$(B)/tests/unit/test_agent_forward_steps: ALL_LDFLAGS += -Wl,--wrap=malloc,--wrap=recv,--wrap=epoll_ctl

# How often the monitor tells the host's kernel which queues it uses.
$(B)/tests/unit/test_virtio_net_tap: ALL_LDFLAGS += -Wl,--wrap=ioctl

# Preloaded by some of them, so not with a sanitizer, nor under QEMU's user emulation, which has no io_uring.
OLD_RING := $(if $(SAN)$(CROSS),,$(B)/tests/old_ring.so)
$(B)/tests/old_ring.so: tests/unit/preload/old_ring.c
	@mkdir -p $(@D)
	$(call step,CC)
	$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -fPIC -shared $< -o $@

# Fuzz targets: one program for each file. It replays the inputs it is given; `make fuzz` links it with libFuzzer to search.
FUZZ := $(patsubst tests/fuzz/%.c,$(B)/tests/fuzz/%,$(fuzz_src))
FUZZ_MAIN = $(if $(findstring fuzzer,$(SAN)),-fsanitize=fuzzer,$(call obj,tests/fuzz/replay.c))
$(B)/tests/fuzz/agent: ALL_LDFLAGS += -Wl,--wrap=agent_spawn
$(FUZZ): $(B)/tests/fuzz/%: $(B)/obj/tests/fuzz/%.o $(call obj,tests/fuzz/replay.c) $(archives)
	@mkdir -p $(@D)
	$(call step,LD)
	$(CC) $(ALL_LDFLAGS) $< $(FUZZ_MAIN) $(archives) $(ZSTD) -luring -lpthread -lutil -o $@

payload_src := tests/payload/payload.c tests/payload/payload_$(ARCH).c
$(B)/tests/payload/payload: $(payload_src) $(wildcard tests/payload/payload*.h tests/payload/payload*.ld) vmm/shared/platform.h
	@mkdir -p $(@D)
	$(call step,LD)
	$(CC) $(CPPFLAGS) $(PAYLOAD_CFLAGS) $(PAYLOAD_CFLAGS_$(ARCH)) $(payload_src) -o $@
	$(if $(filter aarch64,$(ARCH)),$(OBJCOPY) -O binary $@)
$(B)/tests/payload/test_state: $(B)/obj/tests/payload/test_state_$(ARCH).o $(B)/libmonitor.a
	@mkdir -p $(@D)
	$(call step,LD)
	$(CC) $(ALL_LDFLAGS) $^ -luring -lpthread -o $@
$(B)/tests/payload/test_machine $(B)/tests/payload/test_snapshot: $(B)/tests/payload/%: $(B)/obj/tests/payload/%.o $(B)/libmonitor.a
	@mkdir -p $(@D)
	$(call step,LD)
	$(CC) $(ALL_LDFLAGS) $^ -luring -lpthread -o $@
$(B)/tests/payload/test_monitor $(B)/tests/payload/test_fork $(B)/tests/payload/test_kills: $(B)/tests/payload/%: $(B)/obj/tests/payload/%.o $(B)/lib/libwisp.a $(W)/wisp-vmm
	@mkdir -p $(@D)
	$(call step,LD)
	$(CC) $(ALL_LDFLAGS) $(filter-out %/wisp-vmm,$^) -o $@
$(B)/tests/agent_host: $(call obj,tests/agent/agent_host.c) $(B)/libagent.a $(NO_LEAK_CHECK)
	@mkdir -p $(@D)
	$(call step,LD)
	$(CC) $(ALL_LDFLAGS) $^ -o $@

# The programs of tests/faults: in the objects of the program under test, the calls that may fail are renamed.
FAULTS := $(addprefix $(B)/tests/faults/,wisp-vmm agent_host faults_monitor faults_library faults_agent)
FAULT_DRIVER := $(call obj,tests/faults/driver.c tests/faults/inject.c)
$(B)/obj/tests/faults/inject.o: ALL_CFLAGS += -mgeneral-regs-only
$(B)/tests/faults/calls: tests/faults/calls.h
	@mkdir -p $(@D)
	sed -nE 's/^CALL\(([a-z0-9_]+),.*/\1 fault_\1/p' $< > $@
	echo 'io_uring_peek_batch_cqe fault_io_uring_peek_batch_cqe' >> $@
$(B)/tests/faults/monitor.o: $(call obj,vmm/monitor/main.c $(monitor_src) $(virtio_src))
$(B)/tests/faults/library.o: $(call obj,$(lib_src))
$(B)/tests/faults/agent.o: $(call obj,$(agent_src))
$(B)/tests/faults/%.o: $(B)/tests/faults/calls
	$(CC) -r -nostdlib $(filter %.o,$^) -o $@
	$(OBJCOPY) --redefine-syms=$< $@
$(B)/tests/faults/wisp-vmm: $(B)/tests/faults/monitor.o $(call obj,tests/faults/inject.c)
$(B)/tests/faults/faults_monitor: $(call obj,tests/faults/faults_monitor.c) $(FAULT_DRIVER) $(B)/lib/libwisp.a
$(B)/tests/faults/faults_library: $(call obj,tests/faults/faults_library.c) $(FAULT_DRIVER) $(B)/tests/faults/library.o
$(B)/tests/faults/agent_host: $(call obj,tests/agent/agent_host.c tests/faults/inject.c) $(B)/tests/faults/agent.o
$(B)/tests/faults/faults_agent: $(call obj,tests/faults/faults_agent.c) $(FAULT_DRIVER) $(B)/lib/libwisp.a
$(FAULTS):
	@mkdir -p $(@D)
	echo "  LD $@"
	$(CC) $(ALL_LDFLAGS) $^ $(ZSTD) -luring -lpthread -o $@

$(B)/tests/exec_load: $(call obj,tests/e2e/exec_load.c) $(B)/lib/libwisp.a
	@mkdir -p $(@D)
	$(call step,LD)
	$(CC) $(ALL_LDFLAGS) $^ -lpthread -o $@
# Programs that the cases run in a guest, and some on the host.
guest_src := $(filter-out tests/e2e/exec_load.c $(if $(filter x86_64,$(ARCH)),,tests/e2e/buslock.c),$(wildcard tests/e2e/*.c))
GUEST_PROGRAMS := $(patsubst tests/e2e/%.c,$(B)/tests/guest/%,$(guest_src))
$(GUEST_PROGRAMS): $(B)/tests/guest/%: tests/e2e/%.c
	@mkdir -p $(@D)
	$(call step,CC)
	$(MUSL_CC) -std=gnu11 -O2 $(WARN) $(MUSL_HEADERS) -static -s $< -o $@

# The kernel's own test of vsock. It is not one of `tests`, because its source comes from a Debian package.
.PHONY: vsock_test
vsock_test: $(B)/tests/vsock_test
$(B)/tests/vsock_test: tests/vsock_test/build tests/vsock_test/shim.c
	$(call step,CC)
	tests/vsock_test/build $(@D)

.PHONY: tests tests-tsan
PAYLOAD := $(addprefix $(B)/tests/payload/,test_machine test_state test_snapshot test_monitor test_fork test_kills payload)
# What is written for x86-64 alone.
OF_X86_64 := $(FAULTS) $(if $(SAN),,$(B)/bench/entry)
tests: $(UNIT) $(OLD_RING) $(PAYLOAD) $(B)/bin/wisp $(W)/wisp-proxy $(W)/wisp-bench $(W)/wisp-fs $(B)/tests/agent_host $(GUEST_PROGRAMS) $(B)/tests/exec_load \
       $(if $(filter x86_64,$(ARCH)),$(OF_X86_64)) $(if $(SAN),$(FUZZ),$(EXAMPLES) $(if $(CROSS),,$(MAN)) $(B)/bench/guest.cpio)
tests-tsan: $(UNIT_TSAN) $(W)/wisp-fs $(B)/tests/payload/test_machine $(B)/tests/payload/test_snapshot $(B)/tests/payload/test_monitor $(B)/tests/payload/test_fork

check: deps
	echo "make check: building everything, with two kernels on the first run, then all tests"
	$(MAKE) --no-print-directory $(parallel) all guest debian tests vsock_test
	$(if $(filter x86_64,$(MACHINE)),$(MAKE) --no-print-directory build-arm64-if-possible)
	$(MAKE) --no-print-directory $(parallel) SAN=address,undefined tests
	$(MAKE) --no-print-directory $(parallel) SAN=thread tests-tsan
	tests/run

# Programs of others in a guest: an image of 500 MB, and ten minutes in the emulated host. So not part of `make check`.
.PHONY: check-programs check-full check-kernels check-containers deps-containers soak
check-programs: deps
	$(MAKE) --no-print-directory $(parallel) all guest $(B)/programs.squashfs
	tests/emuhost/on-kvm --mem 3072 --scratch 8G --timeout 5400 tests/programs/run $(B)

# What the kernel `full` is for, which it builds if need be: container engines and file systems in an image of 170 MB, and
# IPv6. Minutes in the emulated host.
check-full: deps
	$(MAKE) --no-print-directory $(parallel) all guest kernel-full tests $(B)/containers.squashfs
	tests/emuhost/on-kvm --mem 3072 --scratch 8G --timeout 3600 sh -c \
	    'tests/programs/run $(B) podman docker filesystems && tests/e2e/run $(B) net_ipv6 net_passt_ipv6'

# The end-to-end cases on the kernels of other Debian releases; KERNELS names them.
check-kernels: deps
	$(MAKE) --no-print-directory $(parallel) all guest debian tests vsock_test
	tests/e2e/kernels $(B) $(KERNELS)

# In containers, units of systemd and under SELinux, and where hosts forbid a part of what the monitor's jail is made of. Installs
# podman, docker, whose packages start its daemon, and SELinux's policy, which this machine does not load. Takes minutes in two
# emulated hosts. CASES names some.
check-containers: deps-containers
	$(MAKE) --no-print-directory $(parallel) all guest
	tests/containers/all $(B) $(CASES)

# Emulated Intel processors, as many at once as this machine has processors. They take an hour, so this is not part of `make check`.
# MODELS names them.
.PHONY: check-intel deps-intel
check-intel: deps-intel
	$(MAKE) --no-print-directory $(parallel) all guest tests
	tests/intelhost/check $(B)

# Hours: SOAK_CYCLES (1000) of create, exec, stop, forks and restores, SOAK_GENERATIONS (50) of one guest under load, and
# SOAK_SECONDS (3600) of a mixture; before that, a shared folder of a million files.
soak: deps
	$(MAKE) --no-print-directory $(parallel) all guest tests
	WISP_FILES=1000000 $(B)/tests/unit/test_fs_hostile large_folder
	SOAK_CYCLES=$${SOAK_CYCLES:-1000} $(B)/tests/payload/test_fork cycles_leave_nothing_behind
	tests/emuhost/on-kvm --cpus 4 --mem 3072 --wipe --timeout 28800 --env SOAK_CYCLES=$${SOAK_CYCLES:-1000} \
	    --env SOAK_GENERATIONS=$${SOAK_GENERATIONS:-50} --env SOAK_SECONDS=$${SOAK_SECONDS:-3600} \
	    tests/e2e/run $(B) --soak

quick: all tests
	tests/run lint unit

# Builds the programs that search for inputs, in build-fuzz/tests/fuzz; tests/fuzz/README.md says how to run them.
# FUZZ_CC=afl-clang-fast builds them for AFL++, in build-afl.
FUZZ_CC ?= clang
FUZZ_B := $(if $(findstring afl,$(FUZZ_CC)),build-afl,build-fuzz)
.PHONY: fuzz fuzz-programs
fuzz-programs: $(FUZZ)
fuzz:
	command -v $(FUZZ_CC) >/dev/null || { echo "make fuzz needs $(FUZZ_CC): apt-get install clang libclang-rt-14-dev, or afl++" >&2; exit 1; }
	$(MAKE) B=$(FUZZ_B) CC=$(FUZZ_CC) SAN=fuzzer-no-link,address,undefined CFLAGS="-O1 -g -Wno-unknown-warning-option -Wno-gnu" fuzz-programs

# --- benchmarks: compared with peers in the same run; need a KVM that boots Linux ---

$(B)/bench/%: tests/bench/%.c
	@mkdir -p $(@D)
	$(call step,CC)
	$(MUSL_CC) -std=gnu11 -O2 $(WARN) -D_GNU_SOURCE -I. -static -s $< -o $@
$(B)/bench/entry: vmm/bench/guest.h
# By hand: the figures behind a decision, in docs/results/devices.md.
$(B)/bench/io_uring: tests/bench/io_uring.c
	@mkdir -p $(@D)
	$(call step,CC)
	$(CC) -std=gnu11 -O2 $(WARN) -D_GNU_SOURCE $< -luring -o $@
$(B)/bench/nothing:
	@mkdir -p $(@D)
	echo 'int main(void) { return 0; }' | $(MUSL_CC) -O2 -static -s -x c - -o $@
# A peer's guest runs the same program, as its init.
$(B)/bench/guest.cpio: $(W)/bench-guest
	mkdir -p $(@D)/guest.d && cp $< $(@D)/guest.d/init
	cd $(@D)/guest.d && echo init | cpio --quiet -o -H newc > ../guest.cpio

# A second kernel for the peers, next to wisp's own. Only `make bench` builds it, because that takes minutes.
$(B)/bench/vmlinux-naive: kernel-config/build tests/bench/naive.config
	@mkdir -p $(@D)
	kernel=$$(kernel-config/build tiny tests/bench/naive.config) && ln -sf "$$(echo "$$kernel" | tail -n 1)" $@

bench: deps
	$(MAKE) --no-print-directory $(parallel) all guest $(B)/programs.squashfs \
	    $(addprefix $(B)/bench/,timeit nothing connects guest.cpio entry vmlinux-naive)
	tests/emuhost/on-kvm --mem 6144 --wipe tests/bench/run $(B)

# KERNELS="NAME=PATH ..." adds kernels of other configurations: see kernel-config/README.md.
ablation: deps
	$(MAKE) --no-print-directory $(parallel) all guest
	tests/bench/ablation variants $(B)
	tests/emuhost/on-kvm --mem 6144 --wipe --timeout 3000 --env KERNELS="$(KERNELS)" tests/bench/ablation run $(B)

# The pictures of docs/results, from the tables of its pages.
.PHONY: plots
plots:
	docs/results/plots

lint: all tests
	tests/lint

format:
	clang-format -i $$(git ls-files --cached --others --exclude-standard '*.c' '*.h')

# --- for a newcomer ---

# Once in each clone: install what is missing, from Debian. Each part lists what it needs itself.
PACKAGES := gcc libc6-dev linux-libc-dev make liburing-dev libzstd-dev musl-tools cpio
TEST_PACKAGES := git clang-format shellcheck tmux iproute2 passt iperf3 nftables
deps_lists := Makefile tests/install-deps kernel-config/build rootfs/build-default rootfs/build-debian tests/emuhost/run
deps: $(B)/.deps
$(B)/.deps: $(deps_lists)
	@mkdir -p $(@D)
	tests/install-deps all $(PACKAGES) $(TEST_PACKAGES)
	@touch $@
deps-intel: $(B)/.deps-intel
$(B)/.deps-intel: $(deps_lists) tests/intelhost/run
	@mkdir -p $(@D)
	tests/install-deps run $(PACKAGES) $$(tests/intelhost/run --packages)
	tests/emuhost/run --fetch-kernel
	@touch $@
deps-containers: $(B)/.deps-containers
$(B)/.deps-containers: $(deps_lists) tests/containers/run
	@mkdir -p $(@D)
	tests/install-deps run $(PACKAGES) $$(tests/containers/run --packages) $$(tests/emuhost/run --packages)
	tests/emuhost/run --fetch-kernel
	@touch $@
# For another machine's processor. The libraries are unpacked, not installed: two architectures of one package must have the
# same version, which a machine that was not updated today cannot offer.
CROSS_PACKAGES := gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
SYSROOT_PACKAGES := musl-dev liburing-dev libzstd-dev busybox-static
.PHONY: deps-arm64 deps-armhost check-arm64 check-arm64-e2e
deps-arm64:
	tests/install-deps only $(PACKAGES) $(CROSS_PACKAGES)
	tests/cross-sysroot build-arm64/sysroot $(SYSROOT_PACKAGES)
deps-armhost: deps-arm64
	tests/install-deps only $$(kernel-config/build --packages) $$(rootfs/build-default --packages) $$(tests/armhost/run --packages)
	tests/armhost/run --fetch-kernel

# The unit tests run under QEMU's user emulation; a bare-metal guest and end-to-end cases, with one vCPU each, run in the
# emulated host with arm64 processors.
check-arm64: deps-armhost
	$(MAKE) --no-print-directory $(parallel) ARCH=arm64 all tests build-arm64/lib/wisp/vmlinux-up build-arm64/lib/wisp/base.squashfs
	tests/run arm64 armhost

# All end-to-end cases there.
check-arm64-e2e: deps-armhost
	$(MAKE) --no-print-directory $(parallel) ARCH=arm64 all guest tests
	EMUHOST_ARCH=aarch64 E2E_LIMIT=$${E2E_LIMIT:-7200} tests/e2e/all build-arm64

# apt may not have the packages. tests/run then says why, as a skip.
.PHONY: build-arm64-if-possible
build-arm64-if-possible:
	@mkdir -p build-arm64
	rm -f build-arm64/lacks
	$(MAKE) --no-print-directory deps-arm64 2>build-arm64/said || mv build-arm64/said build-arm64/lacks
	cat build-arm64/said build-arm64/lacks 2>/dev/null >&2 || :
	[ -e build-arm64/lacks ] || $(MAKE) --no-print-directory $(parallel) ARCH=arm64 all tests

deps-run: $(B)/.deps-run
$(B)/.deps-run: $(deps_lists)
	@mkdir -p $(@D)
	tests/install-deps run $(PACKAGES)
	@touch $@

run: deps-run
	echo "Building wisp and its guest. The first build compiles a kernel, which takes minutes; see below."
	$(MAKE) --no-print-directory $(parallel) QUIET=1 $(RUN)
	echo "Starting a sandbox to run a command in it"
	tests/emuhost/on-kvm $(B)/bin/wisp run -- sh -c 'echo "Hello from $$(. /etc/os-release; echo $$PRETTY_NAME), Linux $$(uname -r), up for $$(cut -d" " -f1 /proc/uptime) s"'

install: all guest man
	install -d $(addprefix $(DESTDIR),$(PREFIX)/bin $(PREFIX)/lib/wisp $(LIBDIR)/pkgconfig $(PREFIX)/include $(ZSHDIR) \
	    $(addprefix $(PREFIX)/share/,man/man1 man/man3 bash-completion/completions fish/vendor_completions.d))
	install $(B)/bin/wisp $(DESTDIR)$(PREFIX)/bin/
	install -m 644 $(B)/lib/$(SO) $(B)/lib/libwisp.a $(DESTDIR)$(LIBDIR)/ && ln -sf $(SO) $(DESTDIR)$(LIBDIR)/libwisp.so
	install $(W)/wisp-vmm $(W)/wisp-proxy $(W)/wisp-fs $(W)/wisp-bench $(W)/bench-guest $(DESTDIR)$(PREFIX)/lib/wisp/
	install -m 644 $(sort $(GUEST) $(wildcard $(W)/vmlinux-full)) $(DESTDIR)$(PREFIX)/lib/wisp/
	install -m 644 $(B)/man/wisp.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	install -m 644 $(B)/man/libwisp.3 $(DESTDIR)$(PREFIX)/share/man/man3/
	install -m 644 include/wisp.h $(DESTDIR)$(PREFIX)/include/
	$(NATIVE)/bin/wisp completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/wisp
	$(NATIVE)/bin/wisp completion zsh > $(DESTDIR)$(ZSHDIR)/_wisp
	$(NATIVE)/bin/wisp completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/wisp.fish
	printf '%s\n' 'prefix=$(PREFIX)' 'libdir=$(patsubst $(PREFIX)/%,$${prefix}/%,$(LIBDIR))' 'Name: wisp' \
	    'Description: microVM sandboxes' 'Version: $(VERSION)' 'Libs: -L$${libdir} -lwisp' 'Cflags: -I$${prefix}/include' \
	    > $(DESTDIR)$(LIBDIR)/pkgconfig/wisp.pc

# --- packages ---

# The sources of the last commit. Always the same bytes: names, modes, order and times are the commit's.
.PHONY: dist deb check-deb
DIST := $(B)/wisp-$(VERSION).tar.xz
dist:
	@mkdir -p $(B)
	git -c tar.umask=0022 archive --format=tar --prefix=wisp-$(VERSION)/ HEAD | xz -9 -T1 > $(DIST)
	echo $(DIST)

# Debian packages of the last commit, in $(B)/deb. GUEST_KERNELS="up smp full" makes wisp-guest-full too.
deb: dist
	GUEST_KERNELS='$(GUEST_KERNELS)' SYSROOT='$(SYSROOT)' \
	    packaging/build-deb $(DIST) $(VERSION) $(B)/deb $(patsubst aarch64,arm64,$(patsubst x86_64,amd64,$(ARCH)))

# Installs them into a directory, uses them there, and removes them. Needs root.
check-deb: $(if $(CROSS),deps-armhost)
	tests/install-deps run $(PACKAGES) dpkg-dev debhelper lintian pkg-config autopkgtest $$(tests/emuhost/run --packages)
	tests/emuhost/run --fetch-kernel
	$(MAKE) --no-print-directory deb
	GUEST_KERNELS='$(GUEST_KERNELS)' tests/deb $(B)

clean:
	rm -rf build build-arm64 build-address build-thread build-fuzz build-afl
