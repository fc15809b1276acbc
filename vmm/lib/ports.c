/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/lib/ports.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/lib/manage.h"
#include "vmm/lib/passt.h"
#include "vmm/lib/sandbox.h"

#define SOCKETS_MAX ((size_t)1 << 20) /* of the file */

/* ---- Opening ---- */

static int open_port(struct ports *ports, const struct wisp_port *given, bool has_passt, struct wisp_error *error)
{
	struct port *port = &ports->port[ports->count];
	if (given->guest_port == 0)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL, "the port 0 of the guest: give 1 to 65535");
	int r = listen_parse(given->host, &port->address, error);
	if (r == 0 && has_passt && passt_takes(&port->address))
		return 0;
	if (r == 0)
		r = listen_open(&port->address, &port->fd, error);
	if (r < 0)
		return r;
	port->guest_port = given->guest_port;
	ports->count++;
	return 0;
}

int ports_open(const struct wisp_create_options *options, bool has_passt, struct ports **out, struct wisp_error *error)
{
	int r = 0;
	*out = NULL;
	if (options->port_count == 0)
		return 0;
	if (options->port_count > WISP_PORTS_MAX || !options->ports)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL, "%zu ports: give at most %u", options->port_count,
		        WISP_PORTS_MAX);
	if (options->bare || options->is_template)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "a bare sandbox and a template have no agent that runs, which ports require: omit the ports");
	struct ports *ports = calloc(1, sizeof(*ports));
	if (!ports)
		return lib_no_memory(error);
	for (size_t i = 0; i < options->port_count && r == 0; i++) {
		struct wisp_port port;
		r = lib_copy_element(
		        &port, sizeof(port), options->ports, options->port_size, i, "struct wisp_port", error);
		if (r == 0)
			r = open_port(ports, &port, has_passt, error);
	}
	if (r < 0)
		ports_close(ports);
	else
		*out = ports;
	return r;
}

static void close_port(struct port *port)
{
	close(port->fd);
	if (listen_path(&port->address))
		listen_remove(listen_path(&port->address));
}

void ports_close(struct ports *ports)
{
	for (size_t i = 0; ports && i < ports->count; i++)
		close_port(&ports->port[i]);
	free(ports);
}

/* ---- The paths of Unix sockets ---- */

static int open_paths(int dir_fd, int flags)
{
	return openat(dir_fd, SANDBOX_FILES_SOCKETS, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
}

/*
 * Once there are many lines, removes those whose sockets are gone, and those of a path that is about to be noted again.
 * What is left is far below SOCKETS_MAX: the monitor has a descriptor for each. In place, because others may hold the
 * file.
 */
static void forget_paths(int fd, const char *noted)
{
	struct stat st;
	bool many = fstat(fd, &st) == 0 && (size_t)st.st_size > SOCKETS_MAX / 2;
	char *text = many ? lib_read_open_file(fd, SOCKETS_MAX, NULL) : NULL, *rest = text, *path;
	size_t kept = 0;
	while ((path = strsep(&rest, "\n"))) {
		if (strcmp(path, noted) == 0 || (lstat(path, &st) < 0 && errno == ENOENT))
			continue;
		size_t length = strlen(path);
		memmove(text + kept, path, length);
		kept += length;
		text[kept++] = '\n';
	}
	if (text && lib_pwrite_all(fd, text, kept, 0) == 0)
		lib_truncate(fd, (off_t)kept);
	free(text);
}

/*
 * Notes the path of a Unix socket before anything can happen to this process. The lock keeps what others note
 * meanwhile. It is given back explicitly, because a child of this process may hold the file.
 */
static int note_path(const struct wisp_sandbox *sandbox, const char *path, struct wisp_error *error)
{
	char line[LISTEN_TEXT_MAX + 1];
	int length = snprintf(line, sizeof(line), "%s\n", path);
	int fd = open_paths(sandbox->dir_fd, O_RDWR | O_CREAT), r = fd < 0 ? -errno : 0;
	while (r == 0 && flock(fd, LOCK_EX) < 0)
		r = errno == EINTR ? 0 : -errno;
	if (r == 0) {
		forget_paths(fd, path);
		r = lseek(fd, 0, SEEK_END) < 0 ? -errno : lib_write_all(fd, line, (size_t)length);
		flock(fd, LOCK_UN);
	}
	if (fd >= 0)
		close(fd);
	return r < 0 ? lib_fail_errno(error, -r, "cannot write %s/" SANDBOX_FILES_SOCKETS, sandbox->dir) : 0;
}

/* ---- Passing ---- */

/* Each connection takes a descriptor of the monitor. Its jail has raised the limit; without a jail, this does. */
static void raise_limit(const struct wisp_sandbox *sandbox)
{
	struct rlimit files;
	int32_t pid = state_pid(sandbox->dir_fd);
	if (pid <= 0 || prlimit(pid, RLIMIT_NOFILE, NULL, &files) < 0 || files.rlim_cur == files.rlim_max)
		return;
	files.rlim_cur = files.rlim_max;
	prlimit(pid, RLIMIT_NOFILE, &files, NULL);
}

/* On success, the monitor has the socket, and `port` no more. */
static int pass(struct wisp_sandbox *sandbox, struct port *port, struct wisp_error *error)
{
	struct manage_ask ask = {.op = MANAGE_FORWARD, .value = port->guest_port, .file = port->fd};
	const char *path = listen_path(&port->address);
	int r = path ? note_path(sandbox, path, error) : 0;
	if (path)
		ports_before_end(sandbox); /* the guest may end it */
	if (r == 0)
		r = manage_once(sandbox, &sandbox->cancel, &ask, error);
	if (r < 0)
		return r;
	close(port->fd);
	return 0;
}

int ports_pass(struct wisp_sandbox *sandbox, struct ports **passed, struct wisp_error *error)
{
	struct ports *ports = *passed;
	int r = 0;
	if (!ports)
		return 0;
	*passed = NULL;
	raise_limit(sandbox);
	while (ports->count > 0 && r == 0) {
		r = pass(sandbox, &ports->port[0], error);
		if (r == 0)
			memmove(ports->port, ports->port + 1, --ports->count * sizeof(ports->port[0]));
	}
	ports_close(ports);
	return r;
}

int ports_begin(struct wisp_sandbox *sandbox, struct wisp_error *error)
{
	pthread_mutex_lock(&sandbox->lock);
	struct ports *ports = sandbox->ports;
	sandbox->ports = NULL;
	pthread_mutex_unlock(&sandbox->lock);
	int r = ports_pass(sandbox, &ports, error);
	if (r < 0) {
		sandbox->config.keep = false;
		sandbox_kill(sandbox, NULL, NULL);
	}
	return r;
}

int wisp_add_port(struct wisp_sandbox *sandbox, const char *host, uint16_t guest_port, struct wisp_error *error)
{
	if (lib_is_null(sandbox, "sandbox", error))
		return -EINVAL;
	struct ports *ports = calloc(1, sizeof(*ports));
	if (!ports)
		return lib_no_memory(error);
	int r = open_port(ports, &(struct wisp_port){.host = host, .guest_port = guest_port}, false, error);
	if (r < 0) {
		ports_close(ports);
		return r;
	}
	uint16_t port = listen_port(&ports->port[0].address);
	r = ports_pass(sandbox, &ports, error);
	return r < 0 ? r : port;
}

/* ---- Listing and removing ---- */

struct listing {
	struct manage_port port[MANAGE_PORTS_MAX];
	size_t count;
};

static struct listen_address address_of(const struct manage_port *port)
{
	struct listen_address address = {.size = port->address_size};
	memcpy(&address.address, port->address, sizeof(address.address));
	return address;
}

static bool is_good(const struct manage_port *port)
{
	char text[LISTEN_TEXT_MAX];
	struct listen_address address = address_of(port);
	return port->to > 0 && port->address_size <= sizeof(port->address) && listen_format(&address, text);
}

/* What the monitor writes is checked as what a guest sends is. */
static int list(struct wisp_sandbox *sandbox, struct listing *listing, struct wisp_error *error)
{
	int fd = memfd_create("ports", MFD_CLOEXEC);
	if (fd < 0)
		return lib_fail_errno(error, errno, "cannot make a file in memory");
	struct manage_ask ask = {.op = MANAGE_FORWARDS, .file = fd};
	int r = manage_once(sandbox, &sandbox->cancel, &ask, error);
	ssize_t n = r == 0 ? lib_pread(fd, listing->port, sizeof(listing->port), 0) : 0;
	close(fd);
	if (n < 0)
		return lib_fail_errno(error, (int)-n, "cannot read the ports of the sandbox '%s'", sandbox->name);
	listing->count = (size_t)n / sizeof(listing->port[0]);
	bool good = (size_t)n % sizeof(listing->port[0]) == 0;
	for (size_t i = 0; i < listing->count && good; i++)
		good = is_good(&listing->port[i]);
	if (r == 0 && !good)
		return lib_fail(error, WISP_ERR_PROTOCOL, EPROTO,
		        "the monitor of the sandbox '%s' violated the protocol", sandbox->name);
	return r;
}

static struct wisp_port_info *describe(const struct manage_port *port)
{
	struct {
		struct wisp_port_info info;
		char text[LISTEN_TEXT_MAX];
	} *made = calloc(1, sizeof(*made));
	struct listen_address address = address_of(port);
	if (!made)
		return NULL;
	listen_format(&address, made->text);
	made->info = (struct wisp_port_info){.host = made->text, .guest_port = port->to};
	return &made->info;
}

int wisp_list_ports(struct wisp_sandbox *sandbox, struct wisp_port_info ***out, struct wisp_error *error)
{
	struct listing listing;
	if (lib_is_null(sandbox, "sandbox", error) || lib_is_null(out, "list", error))
		return -EINVAL;
	*out = NULL;
	int r = list(sandbox, &listing, error);
	if (r < 0)
		return r;
	struct wisp_port_info **found = calloc(listing.count + 1, sizeof(*found));
	for (size_t i = 0; found && i < listing.count; i++) {
		if (!(found[i] = describe(&listing.port[i]))) {
			wisp_free_port_list(found);
			found = NULL;
		}
	}
	if (!found)
		return lib_no_memory(error);
	*out = found;
	return (int)listing.count;
}

void wisp_free_port_list(struct wisp_port_info **list)
{
	for (size_t i = 0; list && list[i]; i++)
		free(list[i]);
	free(list);
}

int wisp_remove_port(struct wisp_sandbox *sandbox, const char *host, struct wisp_error *error)
{
	struct listing listing;
	struct listen_address wanted;
	if (lib_is_null(sandbox, "sandbox", error))
		return -EINVAL;
	int r = listen_parse(host, &wanted, error);
	if (r == 0)
		r = list(sandbox, &listing, error);
	for (size_t i = 0; r == 0 && i < listing.count; i++) {
		struct listen_address address = address_of(&listing.port[i]);
		if (!listen_is_same(&address, &wanted))
			continue;
		struct manage_ask ask = {.op = MANAGE_UNFORWARD, .value = listing.port[i].id, .file = -1};
		r = manage_once(sandbox, &sandbox->cancel, &ask, error);
		if (r == 0 && listen_path(&wanted))
			listen_remove(listen_path(&wanted));
		return r;
	}
	if (r < 0)
		return r;
	char text[LISTEN_TEXT_MAX];
	listen_format(&wanted, text);
	return lib_fail(error, WISP_ERR_INVALID, ENOENT, "the sandbox '%s' does not listen on %s: see wisp port ls %s",
	        sandbox->name, text, sandbox->name);
}

/* ---- Unix sockets at the end ---- */

static void remove_paths(int fd)
{
	char *text = fd >= 0 ? lib_read_open_file(fd, SOCKETS_MAX, NULL) : NULL, *rest = text, *path;
	while ((path = strsep(&rest, "\n"))) {
		if (path[0] == '/')
			listen_remove(path);
	}
	free(text);
}

void ports_before_end(struct wisp_sandbox *sandbox)
{
	pthread_mutex_lock(&sandbox->lock);
	if (sandbox->sockets_fd < 0)
		sandbox->sockets_fd = open_paths(sandbox->dir_fd, O_RDONLY);
	pthread_mutex_unlock(&sandbox->lock);
}

void ports_after_end(struct wisp_sandbox *sandbox)
{
	pthread_mutex_lock(&sandbox->lock);
	int fd = sandbox->sockets_fd;
	sandbox->sockets_fd = -1;
	pthread_mutex_unlock(&sandbox->lock);
	remove_paths(fd);
	if (fd >= 0)
		close(fd);
}

void ports_forget(int dir_fd)
{
	int fd = open_paths(dir_fd, O_RDONLY);
	remove_paths(fd);
	if (fd >= 0)
		close(fd);
}
