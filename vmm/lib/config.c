/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/lib/config.h"
#include "vmm/lib/newfile.h"
#include "vmm/shared/sandbox_files.h"

#define CONFIG_MAX ((size_t)8 << 20)

static void add(struct lib_string *out, const char *key, const char *value)
{
	if (!value)
		return;
	lib_string_format(out, "%s=", key);
	for (; *value; value++) {
		if (*value == '\n')
			lib_string_add(out, "\\n", 2);
		else if (*value == '\\')
			lib_string_add(out, "\\\\", 2);
		else
			lib_string_add(out, value, 1);
	}
	lib_string_add(out, "\n", 1);
}

void config_format(const struct config *config, struct lib_string *out)
{
	lib_string_format(out, "%s", SANDBOX_FILES_MAGIC);
	add(out, "image", config->image);
	lib_string_format(out, "cpus=%u\nmemory_mib=%u\n", config->cpus, config->memory_mib);
	lib_string_format(out, "writable=%d\ndetach=%d\nkeep=%d\n", config->writable, config->detach, config->keep);
	lib_string_format(out, "overlay=%d\nbare=%d\n", config->overlay, config->bare);
	lib_string_format(out, "created_ns=%lld\n", (long long)config->created_ns);
	lib_string_format(out, "stop_grace_ms=%lld\n", (long long)config->stop_grace_ms);
	lib_string_format(out, "max_duration_ms=%lld\nidle_timeout_ms=%lld\n", (long long)config->max_duration_ms,
	        (long long)config->idle_timeout_ms);
	lib_string_format(out, "memory_max_mib=%u\ncpu_max_milli=%u\npids_max=%u\n", config->limits.memory_mib,
	        config->limits.cpu_milli, config->limits.pids);
	add(out, "cgroup", config->cgroup);
	lib_string_format(out, "vsock_rate=%llu %llu\nconsole_rate=%llu %llu\n",
	        (unsigned long long)config->vsock_rate.bytes, (unsigned long long)config->vsock_rate.operations,
	        (unsigned long long)config->console_rate.bytes, (unsigned long long)config->console_rate.operations);
	add(out, "workdir", config->workdir);
	add(out, "user", config->user);
	add(out, "shell", config->shell);
	add(out, "hostname", config->hostname);
	add(out, "net", config->net);
	add(out, "warm", config->warm);
	for (const char *const *rule = config->allow; rule && *rule; rule++)
		add(out, "allow", *rule);
	for (const char *const *secret = config->secrets; secret && *secret; secret++)
		add(out, "secret", *secret);
	for (const char **env = config->env; env && *env; env++)
		add(out, "env", *env);
	for (size_t i = 0; config->disks && config->disks[i]; i++)
		add(out, "disk", config->disks[i]);
	for (size_t i = 0; i < config->disk_info_count; i++) {
		const struct config_disk *disk = &config->disk_info[i];
		lib_string_format(out, "disk_info=%u %llu %llu %llu %llu\n", disk->cache, (unsigned long long)disk->dev,
		        (unsigned long long)disk->ino, (unsigned long long)disk->rate.bytes,
		        (unsigned long long)disk->rate.operations);
	}
	for (size_t i = 0; config->folders && config->folders[i]; i++) {
		const struct wisp_folder *folder = config->folders[i];
		add(out, "folder", folder->path);
		add(out, "folder_guest", folder->guest);
		lib_string_format(out, "folder_mode=%d %d\n", folder->read_only, folder->owners);
		if (folder->cache == WISP_FOLDER_ALWAYS)
			add(out, "folder_cache", "always");
	}
}

static int write_unnamed(int dir_fd, const struct lib_string *text)
{
	int fd = newfile_open_unnamed(dir_fd);
	if (fd < 0)
		return fd;
	int r = lib_write_all(fd, text->text, text->length);
	if (r == 0)
		r = newfile_link(fd, dir_fd, SANDBOX_FILES_CONFIG);
	close(fd);
	return r;
}

/* Whole or not at all where the host can do that: the config proves whose the directory is. */
static int write_config(int dir_fd, const struct lib_string *text)
{
	int r = write_unnamed(dir_fd, text);
	if (r == 0)
		return 0;
	/* A file system without such files, or without hard links; a policy that forbids them; a host without /proc. */
	int fd = openat(dir_fd, SANDBOX_FILES_CONFIG, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = lib_write_all(fd, text->text, text->length);
	close(fd);
	return r;
}

int config_write(int dirfd, const struct config *config)
{
	struct lib_string out = {0};
	config_format(config, &out);
	int result = out.failed ? -ENOMEM : out.length > CONFIG_MAX ? -E2BIG : write_config(dirfd, &out);
	free(out.text);
	return result;
}

static void unescape(char *value)
{
	char *to = value;
	for (const char *from = value; *from; from++) {
		if (*from == '\\' && from[1]) {
			from++;
			*to++ = *from == 'n' ? '\n' : *from;
		} else {
			*to++ = *from;
		}
	}
	*to = '\0';
}

/* A number as config_write writes it, or 0: then the default applies, if there is one. */
static int64_t parse_number(const char *text, int64_t most)
{
	char *end;
	errno = 0;
	long long number = strtoll(text, &end, 10);
	return errno == 0 && end != text && *end == '\0' && number >= 0 && number <= most ? number : 0;
}

/* As config_format writes it, or zeros. */
static struct wisp_rate parse_rate(const char *text)
{
	unsigned long long bytes, operations;
	char end;
	if (sscanf(text, "%llu %llu%c", &bytes, &operations, &end) != 2)
		return (struct wisp_rate){0};
	return (struct wisp_rate){.bytes = bytes, .operations = operations};
}

/* The same; earlier versions wrote no rate. */
static struct config_disk parse_disk(const char *text)
{
	struct config_disk disk;
	unsigned long long dev, ino;
	int length = -1;
	if (sscanf(text, "%u %llu %llu%n", &disk.cache, &dev, &ino, &length) != 3 || length < 0 ||
	        disk.cache > WISP_CACHE_UNSAFE || (text[length] != '\0' && text[length] != ' '))
		return (struct config_disk){0};
	disk.dev = dev;
	disk.ino = ino;
	disk.rate = parse_rate(text + length);
	return disk;
}

/* A line of a folder: the first begins it, the others follow. */
static void take_folder(struct config *config, const char *key, const char *value)
{
	if (key[0] == '\0') {
		config->folder_store[config->folder_count] = (struct wisp_folder){.path = value, .guest = ""};
		config->folder_list[config->folder_count] = &config->folder_store[config->folder_count];
		config->folder_count++;
	}
	if (config->folder_count == 0)
		return;
	struct wisp_folder *folder = &config->folder_store[config->folder_count - 1];
	if (strcmp(key, "_guest") == 0)
		folder->guest = value;
	if (strcmp(key, "_cache") == 0)
		folder->cache = strcmp(value, "always") == 0 ? WISP_FOLDER_ALWAYS : WISP_FOLDER_AUTO;
	if (strcmp(key, "_mode") == 0) {
		folder->read_only = value[0] == '1';
		folder->owners = strcmp(value + (value[0] != '\0'), " 1") == 0 ? WISP_OWNERS_MAP : WISP_OWNERS_SQUASH;
	}
}

static void take(struct config *config, const char *key, char *value)
{
	unescape(value);
	if (strcmp(key, "image") == 0)
		config->image = value;
	else if (strcmp(key, "cpus") == 0)
		config->cpus = (uint32_t)parse_number(value, WISP_CPUS_MAX);
	else if (strcmp(key, "memory_mib") == 0)
		config->memory_mib = (uint32_t)parse_number(value, UINT32_MAX);
	else if (strcmp(key, "writable") == 0)
		config->writable = value[0] == '1';
	else if (strcmp(key, "detach") == 0)
		config->detach = value[0] == '1';
	else if (strcmp(key, "keep") == 0)
		config->keep = value[0] == '1';
	else if (strcmp(key, "created_ns") == 0)
		config->created_ns = parse_number(value, INT64_MAX);
	else if (strcmp(key, "stop_grace_ms") == 0)
		config->stop_grace_ms = parse_number(value, INT64_MAX);
	else if (strcmp(key, "max_duration_ms") == 0)
		config->max_duration_ms = parse_number(value, INT64_MAX);
	else if (strcmp(key, "idle_timeout_ms") == 0)
		config->idle_timeout_ms = parse_number(value, INT64_MAX);
	else if (strcmp(key, "memory_max_mib") == 0)
		config->limits.memory_mib = (uint32_t)parse_number(value, UINT32_MAX);
	else if (strcmp(key, "cpu_max_milli") == 0)
		config->limits.cpu_milli = (uint32_t)parse_number(value, UINT32_MAX);
	else if (strcmp(key, "pids_max") == 0)
		config->limits.pids = (uint32_t)parse_number(value, UINT32_MAX);
	else if (strcmp(key, "vsock_rate") == 0)
		config->vsock_rate = parse_rate(value);
	else if (strcmp(key, "console_rate") == 0)
		config->console_rate = parse_rate(value);
	else if (strcmp(key, "cgroup") == 0)
		config->cgroup = value;
	else if (strcmp(key, "workdir") == 0)
		config->workdir = value;
	else if (strcmp(key, "user") == 0)
		config->user = value;
	else if (strcmp(key, "shell") == 0)
		config->shell = value;
	else if (strcmp(key, "hostname") == 0)
		config->hostname = value;
	else if (strcmp(key, "net") == 0)
		config->net = value;
	else if (strcmp(key, "warm") == 0)
		config->warm = value;
	else if (strcmp(key, "allow") == 0)
		config->allow_list[config->allow_count++] = value;
	else if (strcmp(key, "secret") == 0)
		config->secret_list[config->secret_count++] = value;
	else if (strcmp(key, "env") == 0)
		config->env[config->env_count++] = value;
	else if (strcmp(key, "disk") == 0)
		config->disks[config->disk_count++] = value;
	else if (strcmp(key, "disk_info") == 0)
		config->disk_info[config->disk_info_count++] = parse_disk(value);
	else if (strncmp(key, "folder", strlen("folder")) == 0)
		take_folder(config, key + strlen("folder"), value);
	else if (strcmp(key, "overlay") == 0)
		config->overlay = value[0] == '1';
	else if (strcmp(key, "bare") == 0)
		config->bare = value[0] == '1';
}

static size_t count_lines(const char *text, const char *start)
{
	size_t count = 0;
	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		count += strncmp(line, start, strlen(start)) == 0;
	}
	return count;
}

int config_parse(char *text, struct config *config)
{
	*config = (struct config){.text = text};
	config->env = calloc(count_lines(config->text, "env=") + 1, sizeof(*config->env));
	config->disks = calloc(count_lines(config->text, "disk=") + 1, sizeof(*config->disks));
	config->disk_info = calloc(count_lines(config->text, "disk_info=") + 1, sizeof(*config->disk_info));
	config->allow_list = calloc(count_lines(config->text, "allow=") + 1, sizeof(*config->allow_list));
	config->secret_list = calloc(count_lines(config->text, "secret=") + 1, sizeof(*config->secret_list));
	size_t folders = count_lines(config->text, "folder=");
	config->folder_store = calloc(folders + 1, sizeof(*config->folder_store));
	config->folder_list = calloc(folders + 1, sizeof(*config->folder_list));
	config->folders = config->folder_list;
	config->allow = config->allow_list;
	config->secrets = config->secret_list;
	if (!config->env || !config->disks || !config->disk_info || !config->allow || !config->secrets ||
	        !config->folder_store || !config->folder_list) {
		config_free(config);
		return -ENOMEM;
	}
	char *rest = config->text, *line;
	while ((line = strsep(&rest, "\n"))) {
		char *equals = strchr(line, '=');
		if (!equals)
			continue;
		*equals = '\0';
		take(config, line, equals + 1);
	}
	/* One for each disk, whatever the text has. */
	if (config->disk_info_count > config->disk_count)
		config->disk_info_count = config->disk_count;
	return 0;
}

bool config_has_image(const struct config *config)
{
	const struct wisp_folder *first = config->folders ? config->folders[0] : NULL;
	return !config->bare && (!first || strcmp(first->guest, "/") != 0);
}

static int read_text(char *text, struct config *config)
{
	*config = (struct config){0};
	return text ? config_parse(text, config) : -errno;
}

int config_read_open(int fd, struct config *config)
{
	return read_text(lib_read_open_file(fd, CONFIG_MAX, NULL), config);
}

int config_read(int dirfd, struct config *config)
{
	return read_text(lib_read_file(dirfd, SANDBOX_FILES_CONFIG, CONFIG_MAX, NULL), config);
}

void config_free(struct config *config)
{
	free(config->text);
	free(config->env);
	free(config->disks);
	free(config->disk_info);
	free(config->allow_list);
	free(config->secret_list);
	free(config->folder_store);
	free(config->folder_list);
	*config = (struct config){0};
}
