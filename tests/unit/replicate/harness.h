/* SPDX-License-Identifier: MIT */
/*
 * A whole replication in one process: the replicator over channels in memory, a receiver thread for each
 * session, and the real store, whose keeper works at the moment when the source asks for a verdict. A channel
 * can be told to fail at its n-th frame.
 */
#ifndef TESTS_REPLICATE_HARNESS_H
#define TESTS_REPLICATE_HARNESS_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sosie/audit.h"
#include "sosie/message.h"
#include "sosie/replicate.h"
#include "sosie/store.h"
#include "tests/support/scan.h"

#define TENANT "acme"
#define GROUP "erp"
#define VOLUME_MAX_BYTES (6u << 20)

static const char key_line[] =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE14WPoEr3FtWMsJ8hTbNckD/uEsXFjSUThaGy17cZHl test\n";

/* The machine's, but ahead of it by the pauses that were passed over. */
struct shifted_clock {
	struct sosie_clock clock;
	int64_t ahead_ms;
};

struct harness {
	struct shifted_clock clock; /* the source's */
	char dir[64], store_path[96], state_path[96];
	struct sosie_connector connector;
	struct sosie_io *io;
	struct sosie_store *store;
	struct sosie_key_info key;
	bool keeper; /* one works */
	bool receiver_stop;
	long fail_at; /* frames from now, -1: never */
	pthread_mutex_t lock;
	unsigned frames, refused, accepted, answered;
	uint64_t data_bytes; /* in data frames */
	struct sosie_volume volumes[4];
	unsigned volume_count;
	struct sosie_pool *pool;
	unsigned connects; /* asked for */
	bool unreachable;
	struct sosie_source *source;
	/* Makes the source; NULL: scan. */
	struct sosie_source *(*make_source)(struct harness *h);
	struct sosie_replicate_options o;
	struct sosie_replicator *r;
	struct sosie_err err;
	struct sosie_cycle_result result;
};

static void must(int rc, const struct sosie_err *err)
{
	char line[1200];

	if (rc != 0)
		fail_msg("%s", sosie_err_line(err, line, sizeof(line)));
}

/* --- the source's clock
 * --------------------------------------------------------------------------------------------------- */

static int64_t shifted_wall_ms(struct sosie_clock *c)
{
	(void)c;
	return sosie_wall_ms(sosie_clock_real());
}

static int64_t shifted_mono_ms(struct sosie_clock *c)
{
	return sosie_mono_ms(sosie_clock_real()) + ((struct shifted_clock *)c)->ahead_ms;
}

static void shifted_sleep_ms(struct sosie_clock *c, int64_t ms)
{
	(void)c;
	sosie_sleep_ms(sosie_clock_real(), ms);
}

static int shifted_random(struct sosie_clock *c, void *dst, size_t len, struct sosie_err *err)
{
	(void)c;
	return sosie_random(sosie_clock_real(), dst, len, err);
}

static int64_t shifted_boot_ms(struct sosie_clock *c)
{
	(void)c;
	return sosie_boot_ms(sosie_clock_real());
}

static void shifted_boot_id(struct sosie_clock *c, char dst[SOSIE_BOOT_ID])
{
	(void)c;
	sosie_boot_id(sosie_clock_real(), dst);
}

static const struct sosie_clock_ops shifted_ops = {.wall_ms = shifted_wall_ms,
                                                   .mono_ms = shifted_mono_ms,
                                                   .sleep_ms = shifted_sleep_ms,
                                                   .random = shifted_random,
                                                   .boot_ms = shifted_boot_ms,
                                                   .boot_id = shifted_boot_id};

/* --- the receiver's thread
 * ------------------------------------------------------------------------------------------------- */

struct link {
	struct sosie_channel base;
	struct harness *h;
	struct sosie_channel *near, *far;
	pthread_t thread;
};

static void *receive(void *arg)
{
	struct link *l = arg;
	struct sosie_serve_options options = {.clock = sosie_clock_real(),
	                                      .software = "test",
	                                      .hello_ms = 30000,
	                                      .idle_ms = 300000,
	                                      .stop = &l->h->receiver_stop};
	struct sosie_inbox *inbox;
	struct sosie_io *io;
	struct sosie_err err = {0};

	if (sosie_io_posix(&io, &err) != 0)
		return NULL;
	if (sosie_inbox_open(io, options.clock, l->h->store_path, TENANT, l->h->key.id, &inbox, &err) == 0) {
		sosie_serve(l->far, inbox, &options, &err);
		sosie_inbox_close(inbox);
	}
	sosie_channel_close(l->far);
	sosie_io_free(io);
	return NULL;
}

static void keep(struct harness *h)
{
	struct sosie_accept_result result;
	struct sosie_err err = {0};
	int rc = sosie_keeper_accept(h->store, TENANT, GROUP, &result, &err);

	must(rc, &err);
	h->accepted += result.accepted;
	h->refused += result.refused;
	h->answered += result.answered;
}

static int link_send(struct sosie_channel *ch, const void *data, size_t len, struct sosie_err *err)
{
	struct link *l = (struct link *)ch;
	struct harness *h = l->h;
	unsigned type = ((const uint8_t *)data)[4];
	bool fails;

	pthread_mutex_lock(&h->lock);
	h->frames++;
	fails = h->fail_at == 0;
	if (h->fail_at > 0)
		h->fail_at--;
	if (type == SOSIE_MSG_DATA)
		h->data_bytes += len;
	pthread_mutex_unlock(&h->lock);
	if (fails)
		return sosie_err_set(err, SOSIE_EPEER, "the line was cut by the test");
	if (type == SOSIE_MSG_WAIT && h->keeper)
		keep(h);
	return sosie_channel_send(l->near, data, len, err);
}

static int link_recv(struct sosie_channel *ch, void *data, size_t size, size_t *got, int timeout_ms,
                     struct sosie_err *err)
{
	struct link *l = (struct link *)ch;

	return sosie_channel_recv(l->near, data, size, got, timeout_ms, err);
}

static void link_close(struct sosie_channel *ch)
{
	struct link *l = (struct link *)ch;

	sosie_channel_close(l->near);
	pthread_join(l->thread, NULL);
	free(l);
}

static const struct sosie_channel_ops link_ops = {link_send, link_recv, link_close};

static int connect_link(struct sosie_connector *c, struct sosie_channel **out, struct sosie_err *err)
{
	struct harness *h = (struct harness *)((char *)c - offsetof(struct harness, connector));
	struct link *l;

	h->connects++;
	if (h->unreachable)
		return sosie_err_set(err, SOSIE_EPEER, "the test's standby is away");
	l = calloc(1, sizeof(*l));
	assert_non_null(l);
	l->base.ops = &link_ops;
	l->h = h;
	if (sosie_pair(1 << 20, &l->near, &l->far, err) != 0 ||
	    pthread_create(&l->thread, NULL, receive, l) != 0)
		fail_msg("no link");
	*out = &l->base;
	return 0;
}

/* --- set up
 * --------------------------------------------------------------------------------------------------------------------
 */

static void add_volume(struct harness *h, const char *name)
{
	char text[160];

	snprintf(text, sizeof(text), "%s=%s/%s.raw", name, h->dir, name);
	must(sosie_volume_parse(text, &h->volumes[h->volume_count++], &h->err), &h->err);
}

static inline void open_replicator(struct harness *h)
{
	h->o.volumes = h->volumes;
	h->o.volume_count = h->volume_count;
	if (h->make_source)
		h->source = h->make_source(h);
	else
		must(scan_source(h->volumes, h->volume_count, NULL, GROUP, &h->source, &h->err), &h->err);
	h->o.source = h->source;
	must(sosie_replicator_open(&h->o, &h->r, &h->err), &h->err);
}

static void new_pool(struct harness *h);

static void close_replicator(struct harness *h)
{
	if (h->r)
		sosie_replicator_close(h->r);
	if (h->r)
		new_pool(h);
	h->r = NULL;
	if (h->source)
		h->source->ops->destroy(h->source);
	h->source = NULL;
}

static void make_store(struct harness *h)
{
	must(sosie_store_init(h->io, sosie_clock_real(), h->store_path, &h->err), &h->err);
	must(sosie_store_open(h->io, sosie_clock_real(), h->store_path, &h->store, &h->err), &h->err);
	must(sosie_tenant_add(h->store, TENANT, 0, &h->err), &h->err);
	must(sosie_key_add(h->store, TENANT, key_line, sizeof(key_line) - 1, SOSIE_KEY_SSH, NULL, 0, &h->key,
	                   &h->err),
	     &h->err);
}

static struct harness *harness_new(unsigned streams)
{
	struct harness *h = calloc(1, sizeof(*h));

	assert_non_null(h);
	snprintf(h->dir, sizeof(h->dir), "%s/sosie-replicate-XXXXXX",
	         getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	assert_non_null(mkdtemp(h->dir));
	snprintf(h->store_path, sizeof(h->store_path), "%s/store", h->dir);
	snprintf(h->state_path, sizeof(h->state_path), "%s/state", h->dir);
	pthread_mutex_init(&h->lock, NULL);
	must(sosie_io_posix(&h->io, &h->err), &h->err);
	make_store(h);
	h->keeper = true;
	h->fail_at = -1;
	h->connector.open = connect_link;
	h->clock.clock.ops = &shifted_ops;
	must(sosie_pool_new(&h->connector, &h->clock.clock, "test", &h->pool, &h->err), &h->err);
	h->o = (struct sosie_replicate_options){.pool = h->pool,
	                                        .clock = &h->clock.clock,
	                                        .tenant = TENANT,
	                                        .group = GROUP,
	                                        .state = h->state_path,
	                                        .standby = "test",
	                                        .streams = streams,
	                                        .level = 1,
	                                        .accept_wait_ms = 200};
	return h;
}

static void harness_free(struct harness *h)
{
	close_replicator(h);
	sosie_pool_free(h->pool);
	sosie_store_close(h->store);
	must(sosie_io_remove_tree(h->io, h->dir, &h->err), &h->err);
	sosie_io_free(h->io);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

/* As a process that ends: its sessions end with it. */
static void new_pool(struct harness *h)
{
	sosie_pool_free(h->pool);
	must(sosie_pool_new(&h->connector, &h->clock.clock, "test", &h->pool, &h->err), &h->err);
	h->o.pool = h->pool;
}

/* After a failure to connect, the pool's pause passes first. */
static int cycle(struct harness *h)
{
	h->clock.ahead_ms += sosie_pool_pause_ms(h->pool);
	sosie_err_clear(&h->err);
	return sosie_replicator_cycle(h->r, &h->result, &h->err);
}

/* --- volumes
 * ---------------------------------------------------------------------------------------------------------------------
 */

static uint64_t rng_state;

static uint64_t rng(void)
{
	rng_state += 0x9e3779b97f4a7c15u;
	uint64_t z = rng_state;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static int open_volume(const struct harness *h, unsigned i)
{
	int fd = open(h->volumes[i].path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	return fd;
}

static inline void set_size(const struct harness *h, unsigned i, uint64_t size)
{
	int fd = open_volume(h, i);

	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	close(fd);
}

/* Random bytes at an offset, with a leaf's length of zeros now and then (never the first). */
static inline void scribble(const struct harness *h, unsigned i, uint64_t off, size_t len)
{
	uint8_t *buf = calloc(1, len);
	int fd = open_volume(h, i);

	assert_non_null(buf);
	for (size_t at = 0; at < len; at += 8) {
		uint64_t v = rng();

		if (at > 0 && at % 4096 == 0 && v % 8 == 0)
			at += 4096 - 8;
		else
			memcpy(buf + at, &v, len - at < 8 ? len - at : 8);
	}
	assert_int_equal(pwrite(fd, buf, len, (off_t)off), (ssize_t)len);
	free(buf);
	close(fd);
}

static inline void punch(const struct harness *h, unsigned i, uint64_t off, uint64_t len)
{
	int fd = open_volume(h, i);

	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len),
	                 0);
	close(fd);
}

static inline uint64_t volume_size(const struct harness *h, unsigned i)
{
	struct stat st;

	assert_int_equal(stat(h->volumes[i].path, &st), 0);
	return (uint64_t)st.st_size;
}

static inline void compare_files(const char *a, const char *b)
{
	char *x, *y;
	struct stat sa, sb;
	int fa = open(a, O_RDONLY | O_CLOEXEC), fb = open(b, O_RDONLY | O_CLOEXEC);

	assert_true(fa >= 0 && fb >= 0);
	assert_int_equal(fstat(fa, &sa), 0);
	assert_int_equal(fstat(fb, &sb), 0);
	assert_int_equal(sa.st_size, sb.st_size);
	x = malloc((size_t)sa.st_size);
	y = malloc((size_t)sb.st_size);
	assert_int_equal(read(fa, x, (size_t)sa.st_size), sa.st_size);
	assert_int_equal(read(fb, y, (size_t)sb.st_size), sb.st_size);
	if (memcmp(x, y, (size_t)sa.st_size) != 0)
		fail_msg("%s differs from %s", a, b);
	free(x);
	free(y);
	close(fa);
	close(fb);
}

/* I1: the newest point is byte for byte what the volumes hold. */
static inline void check_point(struct harness *h, uint64_t point)
{
	struct sosie_image *images;
	struct sosie_group *g;
	char dir[128];
	unsigned count;

	snprintf(dir, sizeof(dir), "%s/export", h->dir);
	must(sosie_group_open(h->store, TENANT, GROUP, &g, &h->err), &h->err);
	assert_int_equal(sosie_group_points(g), point);
	must(sosie_group_export(g, point, dir, NULL, &images, &count, &h->err), &h->err);
	assert_int_equal(count, h->volume_count);
	for (unsigned i = 0; i < count; i++) {
		unsigned k = 0;

		while (k < h->volume_count && strcmp(h->volumes[k].name.s, images[i].volume.s) != 0)
			k++;
		assert_true(k < h->volume_count);
		compare_files(h->volumes[k].path, images[i].path);
	}
	free(images);
	sosie_group_close(g);
	must(sosie_io_remove_tree(h->io, dir, &h->err), &h->err);
}

#endif
