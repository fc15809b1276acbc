/* SPDX-License-Identifier: Apache-2.0 */
/* The table of verbs. */
#include <string.h>

#include "vmm/cli/cli.h"

static const struct cli_option *const run_options[] = {cli_machine_options, cli_name_option, cli_run_options,
        cli_exec_options, cli_exec_only_options, cli_tty_options, NULL};
static const struct cli_option *const create_options[] = {
        cli_machine_options, cli_name_option, cli_create_options, cli_exec_options, NULL};
static const struct cli_option *const exec_options[] = {cli_exec_options, cli_exec_only_options, cli_tty_options, NULL};
static const struct cli_option *const attach_options[] = {cli_attach_options, NULL};
static const struct cli_option *const json_options[] = {cli_json_option, NULL};
static const struct cli_option *const ls_options[] = {cli_ls_options, cli_json_option, NULL};
static const struct cli_option *const stop_options[] = {cli_stop_options, NULL};
static const struct cli_option *const rm_options[] = {cli_rm_options, NULL};
static const struct cli_option *const logs_options[] = {cli_logs_options, cli_json_option, NULL};
static const struct cli_option *const bench_options[] = {
        cli_bench_options, cli_bench_config_options, cli_machine_options, NULL};
static const struct cli_option *const cp_options[] = {cli_cp_options, NULL};

#define IMAGE_DETAILS                                                                                                  \
	"IMAGE is a file with a squashfs, erofs or ext4, or a directory, which is packed with mksquashfs and kept in " \
	"a cache until something in it changes. Without IMAGE it is wisp's own small system."

const struct cli_verb cli_verbs[] = {
        {
                .name = "run",
                .synopsis = "[IMAGE] -- COMMAND [ARG...]",
                .summary = "Boot a sandbox, run a command in it, exit with the command's code",
                .details = IMAGE_DETAILS
                "\n\nThe command's standard streams are this one's, byte by byte; input is passed on when it is a "
                "pipe or a file, not from a terminal (that is what -t is for). SIGINT, SIGTERM, SIGHUP and SIGQUIT go "
                "to the command; a second one ends it. When the command has ended, or this process has, however that "
                "came, the sandbox is gone.\n\n"
                "  wisp run -- uname -a\n"
                "  wisp run -m 1G -c 2 ./debian.img -- python3 -c 'print(6 * 7)'\n"
                "  tar c . | wisp run -- sh -c 'tar x && make'",
                .options = run_options,
                .operands = {CLI_IMAGE},
                .most = 1,
                .command = CLI_MUST_COMMAND,
                .run = cli_run,
        },
        {
                .name = "create",
                .synopsis = "[IMAGE]",
                .summary = "Boot a sandbox that stays, and print its name",
                .details = IMAGE_DETAILS "\n\n-e, -w and -u set what its commands start from.\n\n"
                                         "  wisp create -n box -m 512\n"
                                         "  wisp exec box -- ps\n"
                                         "  wisp stop box && wisp rm box",
                .options = create_options,
                .operands = {CLI_IMAGE},
                .most = 1,
                .run = cli_create_verb,
        },
        {
                .name = "exec",
                .synopsis = "NAME -- COMMAND [ARG...]",
                .summary = "Run a command in a sandbox, exit with the command's code",
                .details = "Streams and signals are those of wisp run. -t alone attaches to the sandbox's shell.\n\n"
                           "  wisp exec box -- ls -l /\n"
                           "  wisp exec -t box",
                .options = exec_options,
                .operands = {CLI_SANDBOX},
                .least = 1,
                .most = 1,
                .command = CLI_MUST_COMMAND,
                .run = cli_exec,
        },
        {
                .name = "attach",
                .synopsis = "NAME SESSION",
                .summary = "Take part in a session that is running, or see what one wrote",
                .details = "SESSION is a number that wisp sessions lists. A session with a terminal is bridged to "
                           "this one; any other gets this process's streams.",
                .options = attach_options,
                .operands = {CLI_SANDBOX, CLI_SESSION},
                .least = 2,
                .most = 2,
                .run = cli_attach,
        },
        {
                .name = "sessions",
                .alias = "ps",
                .synopsis = "NAME",
                .summary = "List what runs or ran in a sandbox",
                .details = "",
                .options = json_options,
                .operands = {CLI_SANDBOX},
                .least = 1,
                .most = 1,
                .run = cli_sessions,
        },
        {
                .name = "ls",
                .alias = "list",
                .synopsis = "",
                .summary = "List sandboxes",
                .details = "",
                .options = ls_options,
                .run = cli_ls,
        },
        {
                .name = "inspect",
                .synopsis = "NAME",
                .summary = "Print all about a sandbox, as JSON",
                .details = "",
                .options = json_options,
                .operands = {CLI_SANDBOX},
                .least = 1,
                .most = 1,
                .run = cli_inspect,
        },
        {
                .name = "logs",
                .synopsis = "NAME",
                .summary = "Print what a sandbox's commands wrote",
                .details = "The output of every session is kept on the host, also after the sandbox has stopped, up "
                           "to a size. Bytes are printed as they were written; --json prints one object a record.",
                .options = logs_options,
                .operands = {CLI_SANDBOX},
                .least = 1,
                .most = 1,
                .run = cli_logs,
        },
        {
                .name = "cp",
                .synopsis = "SOURCE... DESTINATION",
                .summary = "Copy files and directories into or out of a sandbox",
                .details = "NAME:PATH is in the sandbox, anything else here, and - is standard input or output. Modes, "
                           "times, links and holes are kept. The guest needs tar, which wisp's own image has.\n\n"
                           "  wisp cp src box:/root\n"
                           "  wisp cp box:/var/log/messages .\n"
                           "  wisp cp box:/etc/passwd - | wc -l",
                .options = cp_options,
                .operands = {CLI_PATH, CLI_PATH, CLI_PATH},
                .least = 2,
                .most = SIZE_MAX,
                .run = cli_cp,
        },
        {
                .name = "stop",
                .synopsis = "NAME...",
                .summary = "Stop sandboxes in order",
                .details = "Programs are asked to end, file systems are written and unmounted, and the machine powers "
                           "off. The directory with the logs stays until wisp rm.",
                .options = stop_options,
                .operands = {CLI_SANDBOX, CLI_SANDBOX, CLI_SANDBOX},
                .least = 1,
                .most = SIZE_MAX,
                .run = cli_stop,
        },
        {
                .name = "rm",
                .synopsis = "NAME...",
                .summary = "Delete what stopped sandboxes left",
                .details = "",
                .options = rm_options,
                .operands = {CLI_SANDBOX, CLI_SANDBOX, CLI_SANDBOX},
                .least = 1,
                .most = SIZE_MAX,
                .run = cli_rm,
        },
        {
                .name = "doctor",
                .synopsis = "",
                .summary = "Say whether this host can run sandboxes, and what to do if not",
                .details = "Exits with 0 if it can, else with 1.",
                .options = json_options,
                .run = cli_doctor,
        },
        {
                .name = "bench",
                .synopsis = "boot|compare|floor|exec|density|blk|vsock [IMAGE] [-- COMMAND [ARG...]]",
                .summary = "Measure this host and these sandboxes",
                .details =
                        "boot: sandboxes from creation to gone, with a time for every stage, those inside the "
                        "guest's kernel too; the first command is COMMAND, else echo. compare: two configurations "
                        "in turns, with the ratio of their medians and its 95 % interval. floor: the monitor alone, "
                        "with a payload of a few instructions; on any /dev/kvm. exec: round trips into a running "
                        "sandbox, and its output's throughput beside that of a raw vsock stream. density: how fast "
                        "sandboxes start together, and what "
                        "memory each needs beside the guest's. blk: a disk as the guest sees it, past its page "
                        "cache: 4 KiB anywhere, one and 32 requests at once, and 1 MiB in sequence; the disk is the "
                        "first of --disk, which is only read unless --overwrite is given, else a temporary file. "
                        "vsock: bytes to and from the guest, and connections that echo and close. Where the "
                        "kernel's counts can be read (/sys/kernel/debug and /sys/kernel/tracing, as root), KVM's "
                        "exits and the monitor's system calls for each request are printed too.\n\n"
                        "boot, floor, blk and vsock measure another monitor in the same run, in turns, with --peer: a "
                        "command, split into words as a shell does, whose standard output is its guest's console and "
                        "whose guest's init is the file bench-guest of wisp's libdir. Words for it on the kernel's "
                        "command line say what to do: 'boot', 'blk /dev/vda', 'blk /dev/vda write' or 'vsock'. boot "
                        "compares exec() of wisp-vmm to the first command's first byte with exec() of the peer to its "
                        "init; and kernel entry to PID 1, if the peer's kernel says when it is entered "
                        "(tests/bench/entry.c makes one that does). wisp's guest then runs without breakpoints, as "
                        "the peer's does. floor needs no Linux: the peer starts the file that --payload writes, by "
                        "its PVH entry, with a serial port; for both the time is that from exec() of the monitor "
                        "until the payload's first byte has come through it.\n\n"
                        "  wisp bench boot -n 50 --svg boot.svg --json boot.json\n"
                        "  wisp bench boot --sweep memory=128,512,2G --csv -\n"
                        "  wisp bench compare -n 20 --a '-m 128' --b '-m 1G --kernel ./vmlinux'\n"
                        "  wisp bench boot -m 128 --peer 'qemu-system-x86_64 ... -append \"quiet boot\"'\n"
                        "  wisp bench floor\n"
                        "  wisp bench floor --payload ./p --peer 'qemu-system-x86_64 ... -serial stdio -kernel ./p'\n"
                        "  wisp bench blk --disk /srv/disk.img --overwrite --json blk.json\n"
                        "  wisp bench vsock --peer 'qemu-system-x86_64 ...' --peer-cid 42",
                .options = bench_options,
                .operands = {CLI_BENCH, CLI_IMAGE},
                .least = 1,
                .most = 2,
                .command = CLI_MAY_COMMAND,
                .run = cli_bench,
        },
        {
                .name = "completion",
                .synopsis = "bash|zsh|fish",
                .summary = "Print a shell's completion script",
                .details = "  wisp completion bash > /etc/bash_completion.d/wisp\n"
                           "  wisp completion zsh > /usr/share/zsh/vendor-completions/_wisp\n"
                           "  wisp completion fish > ~/.config/fish/completions/wisp.fish",
                .operands = {CLI_SHELL},
                .least = 1,
                .most = 1,
                .run = cli_completion,
        },
        {
                .name = "version",
                .synopsis = "",
                .summary = "Print wisp's version",
                .details = "",
                .options = json_options,
                .run = cli_version,
        },
        {
                .name = "help",
                .synopsis = "[VERB]",
                .summary = "Say what there is, or how a verb is used",
                .details = "",
                .operands = {CLI_VERB},
                .most = 1,
                .run = cli_help,
        },
        {0},
};

const struct cli_verb *cli_find_verb(const char *name)
{
	for (const struct cli_verb *verb = cli_verbs; verb->name; verb++) {
		if (strcmp(verb->name, name) == 0 || (verb->alias && strcmp(verb->alias, name) == 0))
			return verb;
	}
	return NULL;
}
