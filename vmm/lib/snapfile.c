/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/lib/snapfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/shared/checksum.h"

/* Where guest memory ends is the monitor's to check: it knows the machine. */
#define ANYWHERE (UINT64_MAX - SNAPSHOT_PAGE + 1)

static int fail_damaged(const struct snapfile *file, const char *why, struct wisp_error *error)
{
	return lib_fail(error, WISP_ERR_SNAPSHOT, EBADMSG, "cannot use the snapshot %s: %s", file->path, why);
}

/* ---- Reading ---- */

/* Reads the content, which a compressed file does not have in place. All of it, or an error. */
static int read_content(struct snapfile *file, void *to, size_t size, uint64_t offset, struct wisp_error *error)
{
	const char *why = NULL;
	ssize_t n = file->compressed ? frames_read(&file->frames, to, size, offset, &why)
	                             : lib_pread(file->fd, to, size, (off_t)offset);
	if (n == -EBADMSG && why)
		return fail_damaged(file, why, error);
	if (n < 0)
		return lib_fail_errno(error, (int)-n, "cannot read the snapshot %s", file->path);
	return (size_t)n == size ? 0 : fail_damaged(file, "it has become shorter", error);
}

/* A file's magic numbers; 0 bytes where it cannot be read. */
static size_t peek(int fd, uint8_t bytes[16])
{
	ssize_t n = lib_pread(fd, bytes, 16, 0);
	return n > 0 ? (size_t)n : 0;
}

bool snapfile_is_one(int fd)
{
	uint8_t bytes[16];
	const char *why;
	struct frames frames;
	size_t n = peek(fd, bytes);
	if (!frames_is_start(bytes, n))
		return snapshot_is_head(bytes, n);
	if (frames_open(fd, &frames, &why) < 0)
		return false;
	ssize_t got = frames_read(&frames, bytes, sizeof(bytes), 0, &why);
	frames_close(&frames);
	return got > 0 && snapshot_is_head(bytes, (size_t)got);
}

/* Tells the size of the content. */
static int open_content(struct snapfile *file, struct wisp_error *error)
{
	uint8_t bytes[16];
	const char *why = NULL;
	struct stat st;
	if (fstat(file->fd, &st) < 0)
		return lib_fail_errno(error, errno, "cannot stat the snapshot %s", file->path);
	if (!S_ISREG(st.st_mode))
		return lib_fail(error, WISP_ERR_SNAPSHOT, EINVAL,
		        "cannot use the snapshot %s: it is not a regular file", file->path);
	file->size = (uint64_t)st.st_size;
	file->compressed = frames_is_start(bytes, peek(file->fd, bytes));
	if (!file->compressed)
		return 0;
	int r = frames_open(file->fd, &file->frames, &why);
	if (r == -EBADMSG)
		return fail_damaged(file, why, error);
	if (r < 0)
		return lib_fail_errno(error, -r, "cannot read the snapshot %s", file->path);
	file->size = file->frames.content_size;
	return 0;
}

static int read_head(struct snapfile *file, struct wisp_error *error)
{
	char why[200];
	size_t size = file->size < SNAPSHOT_HEAD_SIZE ? (size_t)file->size : SNAPSHOT_HEAD_SIZE;
	file->bytes = calloc(1, SNAPSHOT_HEAD_SIZE);
	if (!file->bytes)
		return lib_no_memory(error);
	int r = read_content(file, file->bytes, size, 0, error);
	if (r < 0)
		return r;
	r = snapshot_decode_head(file->bytes, size, file->size, &file->head, why, sizeof(why));
	if (r < 0)
		return lib_fail(error, WISP_ERR_SNAPSHOT, -r, "cannot use the snapshot %s: %s", file->path, why);
	char *text = strndup((const char *)file->bytes + sizeof(file->head), file->head.config_size);
	if (!text || config_parse(text, &file->config) < 0)
		return lib_no_memory(error);
	if (file->config.disk_count != file->head.disk_count)
		return fail_damaged(file, "its head is invalid: its config has another number of disks", error);
	for (size_t i = 0; i < file->config.disk_count; i++) {
		const char *disk = file->config.disks[i];
		bool read_only = file->head.disk[i].flags & SNAPSHOT_DISK_READ_ONLY;
		if (strncmp(disk, read_only ? "ro /" : "rw /", 4) != 0)
			return fail_damaged(file, "its head is invalid: a disk in its config", error);
	}
	return 0;
}

int snapfile_open(const char *path, struct snapfile *file, struct wisp_error *error)
{
	/* O_NONBLOCK: opening a FIFO in its place must not block. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT)
		return lib_fail(error, WISP_ERR_SNAPSHOT, ENOENT, "there is no snapshot %s", path);
	if (fd < 0)
		return lib_fail_errno(error, errno, "cannot open the snapshot %s", path);
	return snapfile_open_fd(fd, path, file, error);
}

int snapfile_open_fd(int fd, const char *path, struct snapfile *file, struct wisp_error *error)
{
	*file = (struct snapfile){.fd = fd, .path = path, .frames.fd = -1};
	int r = open_content(file, error);
	if (r == 0)
		r = read_head(file, error);
	if (r < 0)
		snapfile_close(file);
	return r;
}

void snapfile_close(struct snapfile *file)
{
	frames_close(&file->frames);
	if (file->fd >= 0)
		close(file->fd);
	free(file->bytes);
	config_free(&file->config);
	*file = (struct snapfile){.fd = -1};
}

/* ---- Checking ---- */

/* Reads the machine's state and the extents, whose sizes are checked, and checks them. */
static int sum_state(struct snapfile *file, uint64_t *sum, const uint64_t *expected, struct wisp_error *error)
{
	const struct snapshot_layout *l = &file->head.layout;
	size_t size = (size_t)l->extent_count * sizeof(struct snapshot_extent);
	struct snapshot_extent *extents = malloc(size + 1);
	uint8_t *state = malloc((size_t)l->state_size);
	int r = extents && state ? read_content(file, state, (size_t)l->state_size, SNAPSHOT_HEAD_SIZE, error)
	                         : lib_no_memory(error);
	if (r == 0)
		r = read_content(file, extents, size, l->extents_offset, error);
	if (r == 0)
		*sum = checksum(extents, size, checksum(state, (size_t)l->state_size, 0));
	if (r == 0 && expected && *sum != *expected)
		r = fail_damaged(file, "the machine's state is damaged: the checksum differs", error);
	const char *what = r == 0 ? snapshot_check_extents(extents, l->extent_count, l->data_size, ANYWHERE) : NULL;
	if (what)
		r = lib_fail(
		        error, WISP_ERR_SNAPSHOT, EBADMSG, "cannot use the snapshot %s: it has %s", file->path, what);
	free(extents);
	free(state);
	return r;
}

int snapfile_check_state(struct snapfile *file, struct wisp_error *error)
{
	uint64_t sum;
	return sum_state(file, &sum, &file->head.state_sum, error);
}

/* The size of chunk `i`. */
static size_t chunk_size(const struct snapshot_layout *l, uint64_t i)
{
	uint64_t left = l->data_size - i * SNAPSHOT_CHUNK;
	return left < SNAPSHOT_CHUNK ? (size_t)left : SNAPSHOT_CHUNK;
}

/* Reads all of the memory, and stores the checksum of each chunk in `sums`; or compares it with what is there. */
static int sum_chunks(struct snapfile *file, uint64_t *sums, bool compare, uint8_t *buffer,
        const struct lib_cancel *cancel, const struct lib_progress *progress, struct wisp_error *error)
{
	const struct snapshot_layout *l = &file->head.layout;
	for (uint64_t i = 0; i < file->head.sums_count; i++) {
		size_t size = chunk_size(l, i);
		int r = read_content(file, buffer, size, l->data_offset + i * SNAPSHOT_CHUNK, error);
		if (r < 0)
			return r;
		uint64_t sum = checksum(buffer, size, 0);
		if (compare && sum != sums[i])
			return lib_fail(error, WISP_ERR_SNAPSHOT, EBADMSG,
			        "cannot use the snapshot %s: its memory is damaged: the checksum of MiB %llu differs",
			        file->path, (unsigned long long)i);
		sums[i] = sum;
		lib_report(progress, i * SNAPSHOT_CHUNK + size, l->data_size);
		r = lib_check_cancel(cancel);
		if (r < 0)
			return lib_fail_wait(error, r);
	}
	return 0;
}

int snapfile_check_memory(struct snapfile *file, const struct lib_cancel *cancel, const struct lib_progress *progress,
        struct wisp_error *error)
{
	size_t size = (size_t)file->head.sums_count * sizeof(uint64_t);
	uint64_t *sums = malloc(size + 1);
	uint8_t *buffer = malloc(SNAPSHOT_CHUNK);
	int r = sums && buffer ? read_content(file, sums, size, file->head.sums_offset, error) : lib_no_memory(error);
	if (r == 0 && checksum(sums, size, 0) != file->head.sums_sum)
		r = fail_damaged(file, "its checksums are damaged", error);
	if (r == 0)
		r = sum_chunks(file, sums, true, buffer, cancel, progress, error);
	free(sums);
	free(buffer);
	return r;
}

/* ---- Writing ---- */

static int add_sums(struct snapfile *file, const struct lib_cancel *cancel, const struct lib_progress *progress,
        struct wisp_error *error)
{
	struct snapshot_head *head = &file->head;
	size_t size = (size_t)head->sums_count * sizeof(uint64_t);
	uint64_t *sums = malloc(size + 1);
	uint8_t *buffer = malloc(SNAPSHOT_CHUNK);
	int r = sums && buffer ? sum_state(file, &head->state_sum, NULL, error) : lib_no_memory(error);
	if (r == 0)
		r = sum_chunks(file, sums, false, buffer, cancel, progress, error);
	if (r == 0) {
		head->sums_sum = checksum(sums, size, 0);
		int written = lib_pwrite_all(file->fd, sums, size, (off_t)head->sums_offset);
		if (written < 0)
			r = lib_fail_errno(error, -written, "cannot write the snapshot %s", file->path);
	}
	free(sums);
	free(buffer);
	return r;
}

static int write_head(
        int fd, const char *path, struct snapshot_head *head, const struct lib_string *config, struct wisp_error *error)
{
	uint8_t *bytes = calloc(1, SNAPSHOT_HEAD_SIZE);
	if (!bytes || config->failed) {
		free(bytes);
		return lib_no_memory(error);
	}
	head->config_size = (uint32_t)config->length;
	memcpy(bytes + sizeof(*head), config->text, config->length);
	snapshot_seal_head(bytes, head);
	int r = lib_pwrite_all(fd, bytes, SNAPSHOT_HEAD_SIZE, 0);
	free(bytes);
	return r < 0 ? lib_fail_errno(error, -r, "cannot write the snapshot %s", path) : 0;
}

int snapfile_finish(int fd, const char *path, struct snapshot_head *head, const struct lib_string *config,
        const struct lib_cancel *cancel, const struct lib_progress *progress, struct wisp_error *error)
{
	struct snapfile file = {.fd = fd, .path = path};
	off_t size = lseek(fd, 0, SEEK_END);
	if (config->length > SNAPSHOT_CONFIG_MAX)
		return lib_fail(error, WISP_ERR_INVALID, E2BIG,
		        "cannot write the snapshot %s: the sandbox's environment has more than %zu bytes", path,
		        SNAPSHOT_CONFIG_MAX);
	const char *what = size < 0 ? "its size" : snapshot_check_layout(&head->layout, (uint64_t)size);
	if (what || head->layout.data_size > (uint64_t)head->memory_mib << 20)
		return lib_fail(error, WISP_ERR_PROTOCOL, EPROTO, "the monitor wrote an invalid snapshot: %s",
		        what ? what : "more memory than the machine has");
	head->sums_count = snapshot_count_sums(head->layout.data_size);
	head->sums_offset = head->layout.data_offset + head->layout.data_size;
	/* What is behind is not the monitor's to add. */
	int r = lib_truncate(fd, (off_t)head->sums_offset);
	if (r < 0)
		return lib_fail_errno(error, -r, "cannot write the snapshot %s", path);
	file.head = *head;
	r = add_sums(&file, cancel, progress, error);
	*head = file.head;
	return r < 0 ? r : write_head(fd, path, head, config, error);
}
