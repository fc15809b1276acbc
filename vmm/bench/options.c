/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/bench/bench.h"

#define RUNS_MAX 100000u
#define CID_MIN 3u /* smaller ones are not a guest's */

static bool take_warmup(const struct cli_option *option, const char *text, void *to, char *why)
{
	struct bench_warmup *warmup = to;
	(void)option;
	warmup->given = true;
	return cli_parse_count(text, RUNS_MAX, &warmup->runs, why);
}

static bool take_name(const struct cli_option *option, const char *text, void *to, char *why)
{
	return text[0] ? cli_take_text(option, text, to, why) : cli_refuse(why, "it is empty");
}

#define NAME(field) .take = take_name, .offset = CLI_OFFSET(struct bench_options, field, const char *)
#define FLAG(field) CLI_FLAG(struct bench_options, field)
#define COUNT(field) CLI_NUMBER(struct bench_options, field, 1, RUNS_MAX)

static const struct cli_option options[] = {
        {.name = "runs",
                .letter = 'n',
                .value = "N",
                COUNT(runs),
                .help = "the number of runs; default 10 (boot, blk, vsock), 20 (compare, fork, restore), 100 (floor, "
                        "exec) or 8 "
                        "(density)"},
        {.name = "warmup",
                .value = "N",
                .take = take_warmup,
                .offset = offsetof(struct bench_options, warmup),
                .help = "the number of runs before those that count; default 1, 2 (fork, restore) or 3 (floor, exec)"},
        {.name = "cold", FLAG(cold), .help = "drop the host's page cache before each run; requires root"},
        {.name = "a",
                .value = "OPTIONS",
                CLI_TEXT(struct bench_options, a),
                .help = "compare: options of the first configuration, quoted as one word; an image may be among them"},
        {.name = "b",
                .value = "OPTIONS",
                CLI_TEXT(struct bench_options, b),
                .help = "compare: options of the second configuration"},
        {.name = "sweep",
                .value = "NAME=V,V...",
                NAME(sweep),
                .help = "boot, fork --bare, restore --bare: measure a configuration for each value of vcpus or memory"},
        {.name = "parallel",
                .letter = 'j',
                .value = "N",
                COUNT(parallel),
                .help = "density: how many sandboxes boot at once; default: the number of the host's CPUs"},
        {.name = "stream",
                .value = "SIZE",
                CLI_MEMORY(struct bench_options, stream_mib),
                .help = "exec: the length of a stream in one run; default 64M"},
        {.name = "payload",
                .value = "PATH",
                NAME(payload),
                .help = "floor: also write the payload to this file, for another monitor to boot"},
        {.name = "bare",
                FLAG(bare),
                .help = "fork, restore: measure the monitor with a payload of a few instructions, on any /dev/kvm"},
        {.name = "prefetch",
                FLAG(prefetch),
                .help = "fork, restore: with --bare, copy the memory before the clone runs"},
        {.name = "idle", FLAG(idle), .help = "fork: with --bare, of a source that is paused"},
        {.name = "small-pages", FLAG(small_pages), .help = "fork, restore: without transparent huge pages"},
        {.name = "overwrite",
                FLAG(overwrite),
                .help = "blk: also write to the disk of --disk, which destroys its contents"},
        {.name = "peer",
                .value = "COMMAND",
                NAME(peer),
                .help = "boot, floor, blk, vsock: also measure this monitor, in interleaved runs"},
        {.name = "peer-cid",
                .value = "N",
                CLI_NUMBER(struct bench_options, peer_cid, CID_MIN, UINT32_MAX - 1),
                .help = "vsock: the context ID of the peer's guest; default 3"},
        {.name = "cycles",
                .value = "N",
                COUNT(cycles),
                .help = "vsock: the number of connections in a run; default: as many as half a second allows"},
        {.name = "json",
                .value = "PATH",
                NAME(json),
                .help = "write everything to a file, with every sample; - is standard output, as for the next three"},
        {.name = "csv", .value = "PATH", NAME(csv), .help = "write a line for each stage of each run"},
        {.name = "svg",
                .value = "PATH",
                NAME(svg),
                .help = "draw the median run, the spread of its stages, and the distribution"},
        {.name = "perfetto", .value = "PATH", NAME(perfetto), .help = "write the runs as a trace for ui.perfetto.dev"},
        {0},
};

static const struct cli_option setup_options[] = {
        {.name = "symbols",
                .value = "PATH",
                CLI_TEXT(struct bench_setup, symbols),
                .help = "the kernel's System.map; default: KERNEL.map, or System.map in the kernel's directory"},
        {.name = "untraced",
                CLI_FLAG(struct bench_setup, untraced),
                .help = "do not stamp the stages inside the monitor and the guest, which shows what that costs"},
        {.name = "console",
                CLI_FLAG(struct bench_setup, console),
                .help = "let the guest's kernel log to a serial port"},
        {0},
};

static const struct cli_group groups[] = {
        {.options = options},
        {.options = setup_options, .offset = offsetof(struct bench_options, setup)},
        CLI_MACHINE_GROUP(struct bench_options, setup.machine),
        {0},
};

static const struct cli_group setup_groups[] = {
        CLI_MACHINE_GROUP(struct bench_setup, machine),
        {.options = setup_options},
        {0},
};

const struct cli_verb bench_verb = {
        .name = "bench",
        .synopsis = "boot|compare|floor|exec|density|blk|vsock [IMAGE] [-- COMMAND [ARG...]]",
        .summary = "Measure this host and its sandboxes",
        .details =
                "boot measures sandboxes from creation to removal, with a time for every stage, including those inside "
                "the guest's kernel. The first command is COMMAND, or echo.\n\n"
                "compare measures two configurations in interleaved runs, and prints the ratio of their medians with "
                "its 95 % confidence interval.\n\n"
                "floor measures the monitor alone, with a payload of a few instructions. It works on any /dev/kvm.\n\n"
                "exec measures round trips into a running sandbox, and the throughput of a command's output compared "
                "with that of a raw vsock stream.\n\n"
                "density measures how fast sandboxes start together, and how much memory each monitor needs in "
                "addition to the guest's.\n\n"
                "blk measures a disk as the guest sees it, past its page cache: random 4 KiB requests, one and 32 at a "
                "time, and sequential 1 MiB requests. The disk is the first one of --disk, which is only read unless "
                "--overwrite is given; without --disk it is a temporary file.\n\n"
                "vsock measures streams to and from the guest, connections that echo and close, and round trips; then "
                "the "
                "same through a TCP port of the host, as wisp port adds it.\n\n"
                "If the kernel's counters are readable (/sys/kernel/debug and /sys/kernel/tracing, as root), wisp also "
                "prints KVM's exits and the monitor's system calls per request.\n\n"
                "With --peer, boot, floor, blk and vsock measure another monitor in the same run. COMMAND is split "
                "into words as a shell would split it. Its standard output must be its guest's console, and its "
                "guest's init must be the file bench-guest of wisp's libdir. Words on the guest's kernel command line "
                "tell "
                "bench-guest what to do: 'boot', 'blk /dev/vda', 'blk /dev/vda write' or 'vsock'.\n\n"
                "With --peer, boot compares the time from exec() of wisp-vmm to the first byte of the first command "
                "with the time from exec() of the peer to its init. It also compares kernel entry to PID 1 if the "
                "peer's kernel reports its entry (tests/bench/entry.c makes such a kernel). wisp's guest then runs "
                "without breakpoints, as the peer's does.\n\n"
                "With --peer, floor needs no Linux: the peer starts the file that --payload writes, by its PVH entry, "
                "with a serial port (on arm64, as an Image, like QEMU's machine virt). For both monitors the time is "
                "that from exec() until the payload's first byte has "
                "come through the port.\n\n"
                "  wisp bench boot -n 50 --svg boot.svg --json boot.json\n"
                "  wisp bench boot --sweep memory=128,512,2G --csv -\n"
                "  wisp bench compare -n 20 --a '-m 128' --b '-m 1G --kernel ./vmlinux'\n"
                "  wisp bench boot -m 128 --peer 'qemu-system-x86_64 ... -append \"quiet boot\"'\n"
                "  wisp bench floor\n"
                "  wisp bench floor --payload ./p --peer 'qemu-system-x86_64 ... -kernel ./p'\n"
                "  wisp bench blk --disk /srv/disk.img --overwrite --json blk.json\n"
                "  wisp bench vsock --peer 'qemu-system-x86_64 ...' --peer-cid 42",
        .groups = groups,
        .options_size = sizeof(struct bench_options),
        .operands = {CLI_WORD, CLI_FILE},
        .words = "boot compare floor exec density blk vsock",
        .least = 1,
        .most = 2,
        .takes_command = true,
        .run = bench_run,
};

const struct cli_verb bench_setup_verb = {
        .name = "bench",
        .synopsis = "[IMAGE]",
        .summary = "A configuration of wisp bench compare",
        .groups = setup_groups,
        .options_size = sizeof(struct bench_setup),
        .most = 1,
};
