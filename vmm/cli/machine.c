/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "vmm/cli/machine.h"

/* The place of `text` in a list that NULL ends, or -1. */
static int find_word(const char *text, const char *const *words)
{
	for (int i = 0; words[i]; i++) {
		if (strcmp(text, words[i]) == 0)
			return i;
	}
	return -1;
}

static bool parse_cache(const char *text, enum wisp_cache *cache, char *why)
{
	static const char *const modes[] = {[WISP_CACHE_WRITEBACK] = "writeback",
	        [WISP_CACHE_DIRECT] = "direct",
	        [WISP_CACHE_UNSAFE] = "unsafe",
	        NULL};
	int mode = find_word(text, modes);
	*cache = mode < 0 ? *cache : (enum wisp_cache)mode;
	return mode >= 0 || cli_refuse(why, "the cache mode is writeback, direct or unsafe");
}

/* A number of bytes, or a number and K, M or G. */
static bool parse_bytes(const char *text, uint64_t *bytes, char *why)
{
	static const char units[] = "kmg";
	char digits[24], *unit;
	size_t length = strspn(text, "0123456789");
	unsigned shift = 0;
	if (length == 0 || length >= sizeof(digits) || (text[length] && text[length + 1]))
		return cli_refuse(why, "a rate is a number, or a number of bytes with K, M or G");
	memcpy(digits, text, length);
	digits[length] = '\0';
	if (text[length] && !(unit = strchr(units, text[length] | 0x20)))
		return cli_refuse(why, "a rate is a number, or a number of bytes with K, M or G");
	else if (text[length])
		shift = 10 * (unsigned)(unit - units + 1);
	if (!cli_parse_count(digits, UINT64_MAX >> shift, bytes, why))
		return false;
	*bytes <<= shift;
	return *bytes > 0 || cli_refuse(why, "a rate of 0 would let nothing pass");
}

/* "bps=10M" or "iops=100". 1 if it was one of them, 0 if not, -1 with `why` if its value is refused. */
static int parse_rate(const char *text, struct wisp_rate *rate, char *why)
{
	if (strncmp(text, "bps=", 4) == 0)
		return parse_bytes(text + 4, &rate->bytes, why) ? 1 : -1;
	if (strncmp(text, "iops=", 5) == 0)
		return parse_bytes(text + 5, &rate->operations, why) ? 1 : -1;
	return 0;
}

/* DEVICE,bps=SIZE,iops=N, at least one of the two */
static bool take_rate(const struct cli_option *option, const char *text, void *to, char *why)
{
	struct cli_machine *machine = to;
	const struct {
		const char *name;
		struct wisp_rate *rate;
	} devices[] = {{"image", &machine->image_rate}, {"overlay", &machine->overlay_rate},
	        {"vsock", &machine->vsock_rate}, {"console", &machine->console_rate}};
	char copy[128], *rest = copy, *part;
	struct wisp_rate *rate = NULL;
	(void)option;
	if ((size_t)snprintf(copy, sizeof(copy), "%s", text) >= sizeof(copy) || !strchr(copy, ','))
		return cli_refuse(why, "write DEVICE,bps=SIZE,iops=N, with either or both");
	part = strsep(&rest, ",");
	for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++)
		rate = strcmp(part, devices[i].name) == 0 ? devices[i].rate : rate;
	if (!rate)
		return cli_refuse(why, "the device is image, overlay, vsock or console; other disks have it in --disk");
	while ((part = strsep(&rest, ","))) {
		int known = parse_rate(part, rate, why);
		if (known <= 0)
			return known < 0 ? false : cli_refuse(why, "write DEVICE,bps=SIZE,iops=N, with either or both");
	}
	return true;
}

/* Splits options off the end of the path: a comma that begins none of them is part of the path. */
static bool parse_disk(char *path, struct wisp_disk *disk, char *why)
{
	char *option;
	while ((option = strrchr(path, ','))) {
		int rate = parse_rate(option + 1, &disk->rate, why);
		if (rate < 0)
			return false;
		if (rate == 0 && strcmp(option, ",ro") == 0)
			disk->read_only = true;
		else if (rate > 0)
			;
		else if (strncmp(option, ",cache=", 7) != 0)
			break;
		else if (!parse_cache(option + 7, &disk->cache, why))
			return false;
		*option = '\0';
	}
	disk->path = path;
	return true;
}

static bool take_disk(const struct cli_option *option, const char *text, void *to, char *why)
{
	struct cli_machine *machine = to;
	struct wisp_disk disk = {0}, *grown = reallocarray(machine->disks, machine->disk_count + 1, sizeof(*grown));
	char *path = strdup(text);
	(void)option;
	if (grown)
		machine->disks = grown;
	bool good = grown && path ? parse_disk(path, &disk, why) : cli_refuse(why, "out of memory");
	if (good)
		machine->disks[machine->disk_count++] = disk;
	else
		free(path);
	return good;
}

static bool parse_net_number(const char *text, uint64_t most, uint64_t *number, const char *what, char *why)
{
	return cli_parse_count(text, most, number, why) || cli_refuse(why, "%s", what);
}

/* A part of --net that begins with a key, or one of its rates. */
static bool take_net_part(struct cli_machine *machine, char *part, char *why)
{
	struct wisp_net *net = &machine->net;
	const struct {
		const char *key;
		const char **text;
	} texts[] = {{"tap=", &net->tap}, {"mac=", &net->mac}, {"address=", &net->address}, {"gateway=", &net->gateway},
	        {"dns=", &net->dns}, {"address6=", &net->address6}, {"gateway6=", &net->gateway6},
	        {"dns6=", &net->dns6}};
	uint64_t number;
	if (strcmp(part, "passt") == 0) {
		net->kind = WISP_NET_PASST;
		return true;
	}
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		size_t length = strlen(texts[i].key);
		if (strncmp(part, texts[i].key, length) == 0) {
			*texts[i].text = part + length;
			return part[length] != '\0' || cli_refuse(why, "a part of it is empty");
		}
	}
	if (strncmp(part, "fd=", 3) == 0) {
		if (!parse_net_number(part + 3, INT32_MAX, &number, "fd is the number of an open descriptor", why))
			return false;
		machine->net_fd = (int)number;
		net->fd = &machine->net_fd;
		return true;
	}
	if (strncmp(part, "mtu=", 4) == 0) {
		if (!parse_net_number(part + 4, UINT32_MAX, &number, "mtu is a number of bytes", why))
			return false;
		net->mtu = (uint32_t)number;
		return true;
	}
	if (strncmp(part, "queues=", 7) == 0) {
		if (!parse_net_number(part + 7, UINT32_MAX, &number, "queues is a number", why))
			return false;
		net->queues = (uint32_t)number;
		return true;
	}
	int rate = parse_rate(part, &net->rate, why);
	if (rate == 0)
		return cli_refuse(why,
		        "write passt, tap=NAME or fd=N, then mac=, mtu=, address=, gateway=, dns=, address6=, "
		        "gateway6=, dns6=, queues=, bps= or iops=, separated by commas");
	return rate > 0;
}

static bool take_net(const struct cli_option *option, const char *text, void *to, char *why)
{
	struct cli_machine *machine = to;
	char *rest = strdup(text), *part;
	(void)option;
	if (!rest || machine->net_text) {
		free(rest);
		return cli_refuse(why, rest ? "a sandbox has one network card" : "out of memory");
	}
	machine->net_text = rest;
	machine->net = (struct wisp_net){.size = sizeof(machine->net), .kind = WISP_NET_TAP};
	while ((part = strsep(&rest, ","))) {
		if (!take_net_part(machine, part, why))
			return false;
	}
	return true;
}

static bool take_jail(const struct cli_option *option, const char *text, void *to, char *why)
{
	static const char *const modes[] = {
	        [WISP_JAIL_DEFAULT] = "default", [WISP_JAIL_REQUIRE] = "require", [WISP_JAIL_OFF] = "off", NULL};
	struct cli_machine *machine = to;
	int mode = find_word(text, modes);
	(void)option;
	machine->jail = mode < 0 ? machine->jail : (enum wisp_jail_mode)mode;
	return mode >= 0 || cli_refuse(why, "it is default, require or off");
}

static bool take_engine(const struct cli_option *option, const char *text, void *to, char *why)
{
	static const char *const engines[] = {
	        [WISP_ENGINE_AUTO] = "auto", [WISP_ENGINE_IO_URING] = "io_uring", [WISP_ENGINE_EPOLL] = "epoll", NULL};
	struct cli_machine *machine = to;
	int engine = find_word(text, engines);
	(void)option;
	machine->engine = engine < 0 ? machine->engine : (enum wisp_engine)engine;
	return engine >= 0 || cli_refuse(why, "it is auto, io_uring or epoll");
}

enum wisp_jail_mode cli_jail_mode(const struct cli_machine *machine)
{
	return machine->no_jail ? WISP_JAIL_OFF : machine->jail;
}

/* A decimal number, in thousandths. */
static bool take_milli(const struct cli_option *option, const char *text, void *to, char *why)
{
	char *end = NULL;
	double value = strspn(text, "0123456789.") == strlen(text) && text[0] ? strtod(text, &end) : 0;
	(void)option;
	if (!end || *end)
		return cli_refuse(why, "it is not a number of processors, as in 1.5");
	if (value < 0.01 || value > 1000)
		return cli_refuse(why, "give 0.01 to 1000");
	*(uint32_t *)to = (uint32_t)(value * 1000 + 0.5);
	return true;
}

const struct cli_option cli_machine_options[] = {
        {.name = "cpus",
                .letter = 'c',
                .value = "N",
                CLI_NUMBER(struct cli_machine, cpus, 1, WISP_CPUS_MAX),
                .help = "virtual CPUs; default 1"},
        {.name = "memory",
                .letter = 'm',
                .value = "SIZE",
                CLI_MEMORY(struct cli_machine, memory_mib),
                .help = "memory: a number of MiB, or a number and M or G; default 256"},
        {.name = "disk",
                .value = "PATH[,OPTION...]",
                .take = take_disk,
                .help = "add a disk: in the guest from /dev/vdb on, or /dev/vdc with --overlay; OPTION is ro, "
                        "cache=MODE, bps=SIZE or iops=N; MODE is writeback (the default), direct (bypass the host's "
                        "page cache) or unsafe (ignore flushes); bps and iops limit the bytes and requests a second; "
                        "may be repeated"},
        {.name = "rate",
                .value = "DEVICE[,bps=SIZE][,iops=N]",
                .take = take_rate,
                .help = "limit the bytes and operations a second of the image, overlay, vsock or console; may be "
                        "repeated"},
        {.name = "net",
                .value = "passt|tap=NAME|fd=N[,OPTION...]",
                .take = take_net,
                .help = "give the guest a network card: by passt(1), which any user may use, on the tap device NAME, "
                        "or on that of the open descriptor N; OPTION is mac=MAC, mtu=N, address=ADDRESS/PREFIX "
                        "(default: by DHCP), gateway=ADDRESS, dns=ADDRESS, address6=, gateway6= and dns6= (the same "
                        "for IPv6, which requires --kernel full), queues=N, bps=SIZE or iops=N"},
        {.name = "rw",
                CLI_FLAG(struct cli_machine, writable),
                .help = "let the guest write to IMAGE, an ext4 file; by default changes vanish with the sandbox"},
        {.name = "overlay",
                .value = "PATH",
                CLI_TEXT(struct cli_machine, overlay),
                .help = "store changes to IMAGE in PATH, an existing ext4 file or device (mkfs.ext4), not in memory"},
        {.name = "hostname",
                .value = "NAME",
                CLI_TEXT(struct cli_machine, hostname),
                .help = "the guest's host name; default: the sandbox's name"},
        {.name = "shell",
                .value = "PATH",
                CLI_TEXT(struct cli_machine, shell),
                .help = "the shell that exec -t starts without a command; default /bin/sh"},
        {.name = "boot-timeout",
                .value = "DURATION",
                CLI_DURATION(struct cli_machine, boot_timeout_ms),
                .help = "how long the guest may take to become ready; default 30s"},
        {.name = "stop-grace",
                .value = "DURATION",
                CLI_DURATION(struct cli_machine, grace_ms),
                .help = "how long the guest may take to shut down; default 10s"},
        {.name = "max-duration",
                .value = "DURATION",
                CLI_DURATION(struct cli_machine, max_duration_ms),
                .help = "shut the sandbox down when it has lived for this long; by default it has no limit"},
        {.name = "idle-timeout",
                .value = "DURATION",
                CLI_DURATION(struct cli_machine, idle_timeout_ms),
                .help = "shut the sandbox down when no command has run in it for this long; by default never"},
        {.name = "memory-max",
                .value = "SIZE",
                CLI_MEMORY(struct cli_machine, memory_max_mib),
                .help = "let the host kill the sandbox when it and its monitor take more memory than this; as with "
                        "--cpu-max and --pids-max, the processes beside the monitor do not count: wisp-fs, "
                        "wisp-proxy and passt"},
        {.name = "cpu-max",
                .value = "N",
                .take = take_milli,
                .offset = CLI_OFFSET(struct cli_machine, cpu_max_milli, uint32_t),
                .help = "let the sandbox and its monitor run on at most so many of the host's processors, as in 1.5"},
        {.name = "pids-max",
                .value = "N",
                CLI_NUMBER(struct cli_machine, pids_max, 1, UINT32_MAX),
                .help = "let the monitor have at most so many threads and processes"},
        {.name = "kernel",
                .value = "NAME|PATH",
                CLI_TEXT(struct cli_machine, kernel),
                .help = "boot wisp's kernel NAME: up, smp or full, which has what containers need; or the vmlinux "
                        "PATH; default: up, or smp with several CPUs"},
        {.name = "kernel-args",
                .value = "ARGS",
                CLI_TEXT(struct cli_machine, kernel_args),
                .help = "append parameters to the guest's kernel command line; quote them as one word"},
        {.name = "initramfs",
                .value = "PATH",
                CLI_TEXT(struct cli_machine, initramfs),
                .help = "boot this initramfs instead of wisp's own"},
        {.name = "vmm",
                .value = "PATH",
                CLI_TEXT(struct cli_machine, monitor),
                .help = "run this monitor instead of wisp's own wisp-vmm"},
        {.name = "private-memory",
                CLI_FLAG(struct cli_machine, private_memory),
                .help = "share no page of the kernel or the snapshot with other sandboxes, whose timing could tell "
                        "what this one does"},
        {.name = "jail",
                .value = "MODE",
                .take = take_jail,
                .help = "require: do not start unless every layer of the monitor's jail holds; off: as --no-jail; "
                        "default: without the layers that this host lacks"},
        {.name = "reclaim",
                CLI_FLAG(struct cli_machine, reclaim),
                .help = "give memory that the guest has freed back to the host"},
        {.name = "engine",
                .value = "ENGINE",
                .take = take_engine,
                .help = "what carries out the monitor's input and output: io_uring, or epoll, which is slower; auto, "
                        "the default: io_uring if this host has and allows it"},
        {.name = "no-jail",
                CLI_FLAG(struct cli_machine, no_jail),
                .help = "let the monitor keep all rights of its user; then a guest that breaks out has them too"},
        {0},
};

void cli_release_machine(void *group)
{
	struct cli_machine *machine = group;
	/* take_disk allocated the paths. */
	union {
		const char *from;
		char *to;
	} path;
	for (size_t i = 0; i < machine->disk_count; i++) {
		path.from = machine->disks[i].path;
		free(path.to);
	}
	free(machine->disks);
	free(machine->net_text);
}

void cli_fill_machine(const struct cli_machine *machine, const struct cli_places *places, const char *image,
        struct wisp_create_options *options)
{
	*options = (struct wisp_create_options){
	        .size = sizeof(*options),
	        .state_root = places->state_root,
	        .cpus = (uint32_t)machine->cpus,
	        .memory_mib = machine->memory_mib,
	        .image = image,
	        .writable = machine->writable,
	        .overlay = machine->overlay,
	        .disks = machine->disks,
	        .disk_count = machine->disk_count,
	        .disk_size = sizeof(*machine->disks),
	        .hostname = machine->hostname,
	        .shell = machine->shell,
	        .libdir = places->libdir,
	        .helper = machine->monitor,
	        .kernel = machine->kernel,
	        .initramfs = machine->initramfs,
	        .cache_dir = places->cache_dir,
	        .boot_timeout_ms = machine->boot_timeout_ms,
	        .stop_grace_ms = machine->grace_ms,
	        .no_wait = true,
	        .kernel_args = machine->kernel_args,
	        .jail = cli_jail_mode(machine),
	        .engine = machine->engine,
	        .max_duration_ms = machine->max_duration_ms,
	        .idle_timeout_ms = machine->idle_timeout_ms,
	        .memory_max_mib = machine->memory_max_mib,
	        .cpu_max_milli = machine->cpu_max_milli,
	        .pids_max = (uint32_t)machine->pids_max,
	        .private_memory = machine->private_memory,
	        .image_rate = machine->image_rate,
	        .overlay_rate = machine->overlay_rate,
	        .vsock_rate = machine->vsock_rate,
	        .console_rate = machine->console_rate,
	        .reclaim = machine->reclaim,
	        .net = machine->net.size ? &machine->net : NULL,
	};
}

int cli_wait_ready(struct wisp_sandbox *sandbox, int signal_fd, struct wisp_error *error)
{
	for (;;) {
		struct signalfd_siginfo info;
		struct pollfd pfds[2] = {
		        {.fd = wisp_get_sandbox_fd(sandbox), .events = POLLIN}, {.fd = signal_fd, .events = POLLIN}};
		int r = wisp_wait_ready(sandbox, 0, error);
		if (r != -EAGAIN)
			return r;
		/* The library checks its boot timeout only when it is called. */
		if (poll(pfds, 2, 1000) > 0 && (pfds[1].revents & POLLIN) &&
		        read(signal_fd, &info, sizeof(info)) == sizeof(info))
			return (int)info.ssi_signo;
	}
}
