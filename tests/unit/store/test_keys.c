/* SPDX-License-Identifier: MIT */
/* Keys as the audit log says: added, revoked, added anew; stores of before the log; signing keys and the
 * points that they may have signed; a key's groups at the receiver. */
#include <errno.h>

#include "engine/store/keys.h"
#include "sosie/inbox.h"
#include "sosie/message.h"
#include "sosie/sign.h"
#include "tests/unit/store/lab.h"

/* Of 32 zero bytes, of ssh-keygen, and one that is no Ed25519. */
static const char zero_line[] =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA ops@hq\n";
static const char two_line[] =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBrK2jKZ3hTFkFWy3aEIXZvGpHGINh6ydX1c03oNjJSe two\n";
static const char ecdsa_line[] =
        "ecdsa-sha2-nistp256 "
        "AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBAggkp6iym0RgDZdDz3pdNxFvoKydQ0a"
        "C4Qi9ty8PM4WuDE8zmT1dHNgjUn6pF9uH+qJlvRbUWar8jhrDvy69EU= ec\n";

static int add(struct lab *l, const char *line, enum sosie_key_use use, const char *group,
               struct sosie_key_info *out)
{
	struct sosie_name name = {""};
	if (group)
		snprintf(name.s, sizeof(name.s), "%s", group);
	sosie_err_clear(&l->err);
	return sosie_key_add(l->store, "acme", line, strlen(line), use, &name, group != NULL, out, &l->err);
}

static int count_entry(void *arg, const struct sosie_audit_entry *e)
{
	(void)e;
	++*(unsigned *)arg;
	return 0;
}

static unsigned entries(struct lab *l)
{
	unsigned n = 0;
	OK(l, sosie_audit_each(l->store, "acme", count_entry, &n, &l->err));
	return n;
}

static bool copy_is_there(struct lab *l, const char *id)
{
	char path[STORE_PATH];
	OK(l, keys_copy_path(l->store, "acme", id, path, &l->err));
	return sosie_io_exists(l->io, path);
}

/* The tenant's keys; the caller frees. */
static struct sosie_key *list(struct lab *l, unsigned want)
{
	struct sosie_key *keys;
	unsigned count;
	OK(l, sosie_keys(l->store, "acme", &keys, &count, &l->err));
	assert_int_equal(count, want);
	return keys;
}

static void again(struct lab *l)
{
	lab_close(l);
	lab_open(l);
}

static void start(struct lab *l)
{
	lab_init(l, 1u << 27, 0, false);
}

/* --- adding, listing, revoking
 * ----------------------------------------------------------------------------------- */

static void test_key_added_revoked_and_added_anew_is_listed_so(void **state)
{
	struct lab l;
	struct sosie_key_info a, b;
	(void)state;
	start(&l);
	assert_null(list(&l, 0));
	OK(&l, add(&l, zero_line, SOSIE_KEY_SSH, NULL, &a));
	l.clock.now_ms += 1000;
	OK(&l, add(&l, two_line, SOSIE_KEY_SSH, NULL, &b));
	assert_int_equal(entries(&l), 2);
	OK(&l, add(&l, zero_line, SOSIE_KEY_SSH, NULL, &a)); /* the same again */
	assert_int_equal(entries(&l), 2);
	again(&l);
	struct sosie_key *keys = list(&l, 2);
	assert_string_equal(keys[0].info.id, a.id);
	assert_string_equal(keys[0].info.comment, "ops@hq");
	assert_string_equal(keys[0].info.fingerprint, a.fingerprint);
	assert_string_equal(keys[1].info.id, b.id);
	assert_int_equal(keys[1].added_ms - keys[0].added_ms, 1000);
	assert_true(copy_is_there(&l, a.id) && copy_is_there(&l, b.id));
	free(keys);

	l.clock.now_ms += 1000;
	OK(&l, sosie_key_revoke(l.store, "acme", a.id, "lost \033", &l.err));
	OK(&l, sosie_key_revoke(l.store, "acme", a.id, NULL, &l.err));
	OK(&l, sosie_key_revoke(l.store, "acme", a.fingerprint, NULL, &l.err));
	assert_int_equal(entries(&l), 3);
	assert_false(copy_is_there(&l, a.id));
	assert_true(copy_is_there(&l, b.id));
	again(&l);
	keys = list(&l, 2);
	assert_int_equal(keys[0].revoked_ms, l.clock.now_ms);
	assert_int_equal(keys[1].revoked_ms, 0);
	free(keys);

	l.clock.now_ms += 1000;
	OK(&l, add(&l, zero_line, SOSIE_KEY_SSH, "erp", &a));
	keys = list(&l, 2);
	assert_string_equal(keys[0].info.id, a.id);
	assert_int_equal(keys[0].revoked_ms, 0);
	assert_int_equal(keys[0].added_ms, l.clock.now_ms);
	assert_int_equal(keys[0].group_count, 1);
	assert_string_equal(keys[0].groups[0].s, "erp");
	assert_true(copy_is_there(&l, a.id));
	free(keys);
	lab_fini(&l);
}

static void test_key_that_cannot_be_is_refused_and_leaves_no_entry(void **state)
{
	struct lab l;
	struct sosie_key_info k;
	struct sosie_name many[SOSIE_KEY_GROUPS_MAX + 1];
	(void)state;
	start(&l);
	memset(many, 0, sizeof(many));
	assert_int_equal(add(&l, ecdsa_line, SOSIE_KEY_SIGNING, NULL, &k), -SOSIE_ECONFIG);
	assert_int_equal(add(&l, zero_line, SOSIE_KEY_SSH, "no/group", &k), -SOSIE_ENAME);
	for (unsigned i = 0; i <= SOSIE_KEY_GROUPS_MAX; i++)
		snprintf(many[i].s, sizeof(many[i].s), "g%u", i);
	assert_int_equal(sosie_key_add(l.store, "acme", zero_line, strlen(zero_line), SOSIE_KEY_SSH, many,
	                               SOSIE_KEY_GROUPS_MAX + 1, &k, &l.err),
	                 -SOSIE_EUSAGE);
	assert_int_equal(entries(&l), 0);
	OK(&l, sosie_key_add(l.store, "acme", zero_line, strlen(zero_line), SOSIE_KEY_SSH, many,
	                     SOSIE_KEY_GROUPS_MAX, &k, &l.err));
	assert_int_equal(add(&l, zero_line, SOSIE_KEY_SSH, NULL, &k), -SOSIE_EEXISTS);
	assert_int_equal(add(&l, zero_line, SOSIE_KEY_SSH, "g1", &k), -SOSIE_EEXISTS);
	assert_int_equal(entries(&l), 1);
	struct sosie_key *keys = list(&l, 1);
	assert_int_equal(keys[0].group_count, SOSIE_KEY_GROUPS_MAX);
	free(keys);
	OK(&l, add(&l, ecdsa_line, SOSIE_KEY_SSH, NULL, &k));
	assert_int_equal(sosie_key_revoke(l.store, "acme", "0123456789abcdef", NULL, &l.err),
	                 -SOSIE_ENOTFOUND);
	assert_int_equal(sosie_key_revoke(l.store, "nobody", k.id, NULL, &l.err), -SOSIE_ENOTFOUND);
	lab_fini(&l);
}

static void test_key_number_of_a_tenant_is_bounded(void **state)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	struct lab l;
	struct sosie_key_info k;
	char line[sizeof(zero_line)];
	(void)state;
	start(&l);
	for (unsigned i = 0; i <= SOSIE_KEYS_MAX; i++) {
		memcpy(line, zero_line, sizeof(line));
		line[60] = digits[i / 64];
		line[61] = digits[i % 64];
		int rc = add(&l, line, SOSIE_KEY_SSH, NULL, &k);
		assert_int_equal(rc, i < SOSIE_KEYS_MAX ? 0 : -SOSIE_ECONFIG);
		if (i == 0)
			OK(&l, sosie_key_revoke(l.store, "acme", k.id, NULL, &l.err));
	}
	free(list(&l, SOSIE_KEYS_MAX));
	lab_fini(&l);
}

/* --- stores of before the log
 * ------------------------------------------------------------------------------------ */

/* A key as earlier releases registered one. */
static void old_copy(struct lab *l, const char *id, const char *added)
{
	char path[STORE_PATH], text[512];
	snprintf(text, sizeof(text),
	         "{\"format\":1,\"use\":\"ssh\",\"type\":\"ssh-ed25519\",\"blob\":\"AAAA\",\"comment\":"
	         "\"old\","
	         "\"fingerprint\":\"SHA256:old\",\"added\":\"%s\"}",
	         added);
	OK(l, keys_copy_path(l->store, "acme", id, path, &l->err));
	OK(l, sosie_io_write_file(l->io, path, text, strlen(text), 0644, &l->err));
}

static int note_first(void *arg, const struct sosie_audit_entry *e)
{
	unsigned *kinds = arg;
	if (e->number <= 3)
		kinds[e->number - 1] = e->kind;
	return 0;
}

static void test_keys_without_a_log_count_and_are_recorded_by_the_first_entry(void **state)
{
	struct lab l;
	unsigned kinds[3] = {0};
	int64_t first;
	(void)state;
	start(&l);
	old_copy(&l, "bbbbbbbbbbbbbbbb", "2026-01-01T00:00:00.000Z");
	old_copy(&l, "aaaaaaaaaaaaaaaa", "2026-02-01T00:00:00.000Z");
	OK(&l, sosie_time_parse("2026-01-01T00:00:00.000Z", &first, &l.err));
	for (unsigned round = 0; round < 2; round++) {
		struct sosie_key *keys = list(&l, 2);
		assert_string_equal(keys[0].info.id, "bbbbbbbbbbbbbbbb");
		assert_int_equal(keys[0].added_ms, first);
		assert_int_equal(keys[0].use, SOSIE_KEY_SSH);
		assert_string_equal(keys[1].info.id, "aaaaaaaaaaaaaaaa");
		free(keys);
		assert_int_equal(entries(&l), round ? 3 : 0);
		if (round == 0)
			OK(&l, sosie_audit_append(l.store, "acme", SOSIE_AUDIT_COMMAND, sosie_json_new(),
			                          NULL, &l.err));
	}
	OK(&l, sosie_audit_each(l.store, "acme", note_first, kinds, &l.err));
	assert_int_equal(kinds[0], SOSIE_AUDIT_KEY_ADD);
	assert_int_equal(kinds[1], SOSIE_AUDIT_KEY_ADD);
	assert_int_equal(kinds[2], SOSIE_AUDIT_COMMAND);
	/* One that came later by hand counts too, and can be revoked. */
	old_copy(&l, "cccccccccccccccc", "2026-03-01T00:00:00.000Z");
	free(list(&l, 3));
	OK(&l, sosie_key_revoke(l.store, "acme", "cccccccccccccccc", NULL, &l.err));
	assert_false(copy_is_there(&l, "cccccccccccccccc"));
	assert_int_equal(entries(&l), 5);
	struct sosie_key *keys = list(&l, 3);
	assert_true(keys[2].revoked_ms > 0);
	free(keys);
	lab_fini(&l);
}

static void test_copy_that_cannot_be_read_is_named_and_keeps_no_other_entry_away(void **state)
{
	struct lab l;
	struct sosie_key *keys;
	unsigned count;
	(void)state;
	start(&l);
	OK(&l, sosie_io_write_file(l.io, "/s/acme/_keys/dddddddddddddddd.json", "{", 1, 0644, &l.err));
	assert_int_equal(sosie_keys(l.store, "acme", &keys, &count, &l.err), -SOSIE_ECORRUPT);
	assert_non_null(strstr(l.err.where, "dddddddddddddddd.json"));
	OK(&l, sosie_audit_append(l.store, "acme", SOSIE_AUDIT_COMMAND, sosie_json_new(), NULL, &l.err));
	assert_int_equal(entries(&l), 1);
	lab_fini(&l);
}

/* --- the power goes
 * ---------------------------------------------------------------------------------------------- */

static bool revoke_cut_at(uint64_t n, enum sosie_fate fate)
{
	struct lab l;
	struct sosie_key_info k;
	start(&l);
	OK(&l, add(&l, zero_line, SOSIE_KEY_SSH, NULL, &k));
	sosie_disk_cut_after(l.disk, n);
	int rc = sosie_key_revoke(l.store, "acme", k.id, NULL, &l.err);
	bool fired = sosie_disk_is_cut(l.disk);
	if (!fired)
		sosie_disk_cut_after(l.disk, 0);
	lab_close(&l);
	sosie_disk_restart(l.disk, fate);
	sosie_disk_cut_after(l.disk, UINT64_MAX);
	lab_open(&l);
	assert_false(rc == 0 && copy_is_there(&l, k.id));
	OK(&l, sosie_keeper_tenant(l.store, "acme", &l.err)); /* a keeper starts */
	struct sosie_key *keys = list(&l, 1);
	assert_true(rc != 0 || keys[0].revoked_ms > 0);
	assert_int_equal(copy_is_there(&l, k.id), keys[0].revoked_ms == 0);
	free(keys);
	OK(&l, sosie_key_revoke(l.store, "acme", k.id, NULL, &l.err));
	assert_false(copy_is_there(&l, k.id));
	lab_fini(&l);
	return fired;
}

static void test_revocation_that_was_cut_is_whole_or_not_at_all(void **state)
{
	unsigned cuts = 0;
	(void)state;
	for (int fate = SOSIE_FATE_KEPT; fate <= SOSIE_FATE_REORDERED; fate++)
		for (uint64_t n = 0; revoke_cut_at(n, (enum sosie_fate)fate); n++)
			cuts++;
	print_message("rounds: %u simulated-power-cuts\n", cuts);
	assert_true(cuts >= 12);
}

/* --- signing keys
 * ------------------------------------------------------------------------------------------------ */

static void points(struct lab *l, unsigned count)
{
	static uint8_t bytes[4096];
	if (l->model.volume_count == 0) {
		lab_accept(l);
		model_add(&l->model, "root", 8192);
	}
	for (unsigned i = 0; i < count; i++) {
		bytes[0]++;
		const struct change c = {0, 0, sizeof(bytes), bytes};
		lab_point(l, &c, 1);
	}
}

/* How far the key may have signed in the group; -1: it is not told at all. */
static int64_t until(struct lab *l, const char *group, const char *id)
{
	struct sosie_signing_key *keys;
	unsigned count;
	int64_t found = -1;
	OK(l, sosie_signing_keys(l->store, "acme", group, &keys, &count, &l->err));
	for (unsigned i = 0; i < count; i++)
		if (strcmp(keys[i].id, id) == 0) {
			assert_int_equal(found, -1);
			found = keys[i].until == UINT64_MAX ? INT64_MAX : (int64_t)keys[i].until;
		}
	free(keys);
	return found;
}

/* From here on the lab's uploads are signed; line: the key's. */
static void sign_uploads(struct lab *l, char line[SOSIE_PUBLIC_LINE])
{
	static const uint8_t seed[32] = {7};
	OK(l, sosie_signer_seed(seed, &l->signer, &l->err));
	sosie_public_line(sosie_signer_public(l->signer), "source", line);
}

static void end_signing(struct lab *l)
{
	sosie_signer_close(l->signer);
	lab_fini(l);
}

static void test_signing_key_is_good_up_to_the_points_of_its_revocation(void **state)
{
	struct lab l;
	struct sosie_key_info a, b;
	struct sosie_signing_key *keys;
	unsigned count;
	char line[SOSIE_PUBLIC_LINE];
	(void)state;
	start(&l);
	sign_uploads(&l, line);
	OK(&l, add(&l, two_line, SOSIE_KEY_SSH, NULL, &b));
	OK(&l, sosie_signing_keys(l.store, "acme", "erp", &keys, &count, &l.err));
	assert_null(keys);
	assert_int_equal(count, 0);
	OK(&l, add(&l, line, SOSIE_KEY_SIGNING, NULL, &a));
	assert_false(copy_is_there(&l, a.id)); /* no receiver takes it for an SSH key */
	OK(&l, sosie_signing_keys(l.store, "acme", "erp", &keys, &count, &l.err));
	assert_int_equal(count, 1);
	assert_memory_equal(keys[0].key, sosie_signer_public(l.signer)->b, SOSIE_PUBLIC_LEN);
	free(keys);
	points(&l, 2);
	assert_int_equal(until(&l, "erp", a.id), INT64_MAX);
	OK(&l, sosie_key_revoke(l.store, "acme", a.id, "stolen", &l.err));
	assert_int_equal(until(&l, "erp", a.id), 2);
	assert_int_equal(until(&l, "crm", a.id), 0);
	again(&l);
	assert_int_equal(until(&l, "erp", a.id), 2);
	/* Good again, then for crm alone, then not at all: what it signed in erp by then stays. */
	OK(&l, add(&l, line, SOSIE_KEY_SIGNING, NULL, &a));
	assert_int_equal(until(&l, "erp", a.id), INT64_MAX);
	points(&l, 1);
	OK(&l, sosie_key_revoke(l.store, "acme", a.id, NULL, &l.err));
	assert_int_equal(until(&l, "erp", a.id), 3);
	OK(&l, add(&l, line, SOSIE_KEY_SIGNING, "crm", &a));
	assert_int_equal(until(&l, "erp", a.id), 3);
	assert_int_equal(until(&l, "crm", a.id), INT64_MAX);
	OK(&l, sosie_key_revoke(l.store, "acme", a.id, NULL, &l.err));
	assert_int_equal(until(&l, "erp", a.id), 3);
	assert_int_equal(until(&l, "crm", a.id), 0);
	end_signing(&l);
}

static void test_one_key_for_both_uses_is_revoked_for_both(void **state)
{
	struct lab l;
	struct sosie_key_info k;
	(void)state;
	start(&l);
	OK(&l, add(&l, zero_line, SOSIE_KEY_SSH, NULL, &k));
	OK(&l, add(&l, zero_line, SOSIE_KEY_SIGNING, "erp", &k));
	assert_int_equal(until(&l, "erp", k.id), INT64_MAX);
	assert_int_equal(until(&l, "crm", k.id), -1);
	OK(&l, sosie_key_revoke(l.store, "acme", k.id, NULL, &l.err));
	struct sosie_key *keys = list(&l, 2);
	assert_true(keys[0].revoked_ms && keys[1].revoked_ms);
	free(keys);
	assert_int_equal(until(&l, "erp", k.id), 0);
	assert_false(copy_is_there(&l, k.id));
	lab_fini(&l);
}

/* More groups than an entry names: the ones before the last only tell points. erp comes in the last. */
static void test_signing_key_of_many_groups_is_revoked_in_several_entries(void **state)
{
	struct lab l;
	struct sosie_key_info k;
	char name[SOSIE_NAME_MAX + 1];
	char line[SOSIE_PUBLIC_LINE];
	(void)state;
	start(&l);
	sign_uploads(&l, line);
	OK(&l, add(&l, line, SOSIE_KEY_SIGNING, NULL, &k));
	points(&l, 2);
	for (unsigned i = 0; i < 600; i++) {
		snprintf(name, sizeof(name), "a%03u-%.*s", i, 55,
		         "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
		OK(&l, group_make(l.store, "acme", name, &l.err));
	}
	OK(&l, sosie_key_revoke(l.store, "acme", k.id, NULL, &l.err));
	assert_int_equal(entries(&l), 3);
	assert_int_equal(until(&l, "erp", k.id), 2);
	assert_int_equal(until(&l, name, k.id), 0);
	struct sosie_key *keys = list(&l, 1);
	assert_true(keys[0].revoked_ms > 0);
	free(keys);
	end_signing(&l);
}

static void test_revocation_waits_for_the_groups_and_says_when_it_cannot(void **state)
{
	struct lab l;
	struct sosie_key_info k;
	struct sosie_io *io;
	struct sosie_store *store;
	struct sosie_group *g;
	char line[SOSIE_PUBLIC_LINE];
	(void)state;
	start(&l);
	sign_uploads(&l, line);
	OK(&l, add(&l, line, SOSIE_KEY_SIGNING, NULL, &k));
	points(&l, 1);
	OK(&l, sosie_io_sim(l.disk, &io, &l.err));
	OK(&l, sosie_store_open(io, &l.clock.clock, "/s", &store, &l.err));
	OK(&l, sosie_group_open(store, "acme", "erp", &g, &l.err));
	OK(&l, sosie_group_lock(g, "test", 0, &l.err));
	assert_int_equal(sosie_key_revoke(l.store, "acme", k.id, NULL, &l.err), -SOSIE_EBUSY);
	assert_non_null(strstr(l.err.action, "NOT revoked"));
	assert_int_equal(until(&l, "erp", k.id), INT64_MAX);
	sosie_group_close(g);
	sosie_store_close(store);
	sosie_io_free(io);
	OK(&l, sosie_key_revoke(l.store, "acme", k.id, NULL, &l.err));
	assert_int_equal(until(&l, "erp", k.id), 1);
	end_signing(&l);
}

static void flip_at(struct lab *l, const char *path, uint64_t at)
{
	struct sosie_file *f;
	uint8_t byte;
	size_t got;
	OK(l, sosie_io_openat(l->io, path, SOSIE_READ | SOSIE_WRITE, 0, &f, &l->err));
	OK(l, sosie_io_pread(l->io, f, &byte, 1, at, &got, &l->err));
	byte ^= 0x55;
	OK(l, sosie_io_pwrite(l->io, f, &byte, 1, at, &l->err));
	OK(l, sosie_io_close(l->io, f, &l->err));
}

static void count_revoked(void *arg, const char *where, const char *what)
{
	(void)where;
	*(unsigned *)arg += strstr(what, "was revoked") != NULL;
}

/* Places that are damaged because a key was revoked before. */
static unsigned verify_group(struct lab *l, const char *group, struct sosie_verify *v)
{
	struct sosie_group *g;
	static unsigned revoked;
	revoked = 0;
	v->damage = count_revoked;
	v->arg = &revoked;
	OK(l, sosie_group_open(l->store, "acme", group, &g, &l->err));
	OK(l, sosie_group_verify(g, v, &l->err));
	sosie_group_close(g);
	return revoked;
}

/* Its points cannot be told: the time of the revocation stands for them. */
static void test_damaged_chain_of_one_group_holds_up_no_revocation(void **state)
{
	struct lab l;
	struct sosie_key_info k;
	struct sosie_signing_key *keys;
	struct sosie_verify v = {.full = true};
	unsigned count;
	char line[SOSIE_PUBLIC_LINE];
	(void)state;
	start(&l);
	sign_uploads(&l, line);
	OK(&l, add(&l, line, SOSIE_KEY_SIGNING, NULL, &k));
	points(&l, 2);
	OK(&l, group_make(l.store, "acme", "crm", &l.err));
	flip_at(&l, "/s/acme/erp/chain/000001.chain", 0);
	again(&l); /* another process: this one knows the entry */
	OK(&l, sosie_key_revoke(l.store, "acme", k.id, NULL, &l.err));
	assert_int_equal(until(&l, "erp", k.id), 0);
	assert_int_equal(until(&l, "crm", k.id), 0);
	flip_at(&l, "/s/acme/erp/chain/000001.chain", 0); /* it is brought back */
	again(&l);
	assert_int_equal(verify_group(&l, "erp", &v), 0);
	assert_int_equal(v.damaged, 0);
	assert_int_equal(v.signed_points, 2);
	OK(&l, sosie_signing_keys(l.store, "acme", "crm", &keys, &count, &l.err));
	assert_int_equal(keys[0].until_ms, 0);
	free(keys);
	/* A time between the two points: the second one was too late. */
	OK(&l, sosie_signing_keys(l.store, "acme", "erp", &keys, &count, &l.err));
	assert_int_equal(count, 1);
	assert_int_equal(keys[0].until_ms, l.clock.now_ms);
	keys[0].until_ms -= 1;
	v.source_keys = keys;
	v.source_key_count = 1;
	assert_int_equal(verify_group(&l, "erp", &v), 1);
	keys[0].until_ms = 0;
	assert_int_equal(verify_group(&l, "erp", &v), 2);
	free(keys);
	end_signing(&l);
}

static void test_signatures_are_nobodys_while_the_log_cannot_be_read(void **state)
{
	struct lab l;
	struct sosie_key_info k;
	struct sosie_verify v = {.full = true};
	char line[SOSIE_PUBLIC_LINE];
	(void)state;
	start(&l);
	sign_uploads(&l, line);
	OK(&l, add(&l, line, SOSIE_KEY_SIGNING, NULL, &k));
	points(&l, 2);
	(void)verify_group(&l, "erp", &v);
	assert_int_equal(v.signed_points, 2);
	assert_int_equal(v.unattributed, 0);
	OK(&l, sosie_audit_append(l.store, "acme", SOSIE_AUDIT_COMMAND, sosie_json_new(), NULL, &l.err));
	flip_at(&l, "/s/acme/_audit/000001.audit", 80);
	again(&l);
	(void)verify_group(&l, "erp", &v);
	assert_int_equal(v.signed_points, 0);
	assert_int_equal(v.unattributed, 2);
	end_signing(&l);
}

/* --- at the same time
 * ------------------------------------------------------------------------------------------ */

/* Another process on the lab's store, which acts once, when the lab's clock is asked. */
struct other {
	struct lab *l;
	struct sosie_io *io;
	struct sosie_clock_virtual clock;
	struct sosie_store *store;
	struct sosie_group *locked;
	const char *id;
};
static struct other peer;
static const struct sosie_clock_ops *plain_ops;
static struct sosie_clock_ops hooked_ops;

static void other_open(struct lab *l, const char *id)
{
	memset(&peer, 0, sizeof(peer));
	peer.l = l;
	peer.id = id;
	sosie_clock_virtual_init(&peer.clock, l->clock.now_ms, 7);
	OK(l, sosie_io_sim(l->disk, &peer.io, &l->err));
	OK(l, sosie_store_open(peer.io, &peer.clock.clock, "/s", &peer.store, &l->err));
	peer.store->home = l->store->home;
	peer.store->home_lent = true;
	plain_ops = l->clock.clock.ops;
	hooked_ops = *plain_ops;
	l->clock.clock.ops = &hooked_ops;
}

static void other_close(void)
{
	peer.l->clock.clock.ops = plain_ops;
	sosie_store_close(peer.store);
	sosie_io_free(peer.io);
}

/* The entry of a revocation, and no more. */
static void other_revokes(void)
{
	struct sosie_json *body = sosie_json_new();
	sosie_json_set_str(body, "key", peer.id);
	sosie_json_set_str(body, "reason", NULL);
	sosie_json_add_obj(body, "points");
	OK(peer.l, sosie_audit_append(peer.store, "acme", SOSIE_AUDIT_KEY_REVOKE, body, NULL, &peer.l->err));
}

/* An upload of the lab's signer for a group of which nothing is there but, when it comes first, the folders.
 */
static struct sosie_accept_result other_uploads(const char *group, struct sosie_signer *signer)
{
	static const uint8_t bytes[4096] = {9};
	const struct change c = {0, 0, sizeof(bytes), bytes};
	struct lab *l = peer.l;
	struct sosie_accept_result r;
	struct sosie_group *g;
	struct model m;
	model_init(&m, "acme", group);
	model_add(&m, "root", 8192);
	OK(l, sosie_keeper_accept(peer.store, "acme", group, &r, &l->err));
	OK(l, sosie_group_open(peer.store, "acme", group, &g, &l->err));
	struct make_upload u = {.io = peer.io,
	                        .clock = &peer.clock.clock,
	                        .store = "/s",
	                        .model = &m,
	                        .changes = &c,
	                        .change_count = 1,
	                        .signer = signer};
	u.parent = *chain_head(g->chain);
	sosie_group_close(g);
	make_upload(&u);
	OK(l, sosie_keeper_accept(peer.store, "acme", group, &r, &l->err));
	model_fini(&m);
	return r;
}

static void let_go_after_a_new_group(struct sosie_clock *clock, int64_t ms)
{
	plain_ops->sleep_ms(clock, ms);
	if (!peer.locked)
		return;
	assert_int_equal(other_uploads("crm", peer.l->signer).accepted, 1);
	sosie_group_close(peer.locked);
	peer.locked = NULL;
}

static void test_revocation_takes_in_groups_made_while_it_waits(void **state)
{
	struct lab l;
	struct sosie_key_info k;
	struct sosie_verify v = {.full = true};
	char line[SOSIE_PUBLIC_LINE];
	(void)state;
	start(&l);
	sign_uploads(&l, line);
	OK(&l, add(&l, line, SOSIE_KEY_SIGNING, NULL, &k));
	points(&l, 2);
	other_open(&l, k.id);
	hooked_ops.sleep_ms = let_go_after_a_new_group;
	OK(&l, sosie_group_open(peer.store, "acme", "erp", &peer.locked, &l.err));
	OK(&l, sosie_group_lock(peer.locked, "test", 0, &l.err));
	OK(&l, sosie_key_revoke(l.store, "acme", k.id, NULL, &l.err));
	assert_null(peer.locked);
	assert_int_equal(until(&l, "erp", k.id), 2);
	assert_int_equal(until(&l, "crm", k.id), 1);
	assert_int_equal(verify_group(&l, "crm", &v), 0);
	assert_int_equal(v.damaged, 0);
	other_close();
	end_signing(&l);
}

/* The parts are taken in by then: the key was looked at before. */
static int64_t revoke_during_acceptance(struct sosie_clock *clock)
{
	if (peer.id && sosie_io_exists(peer.io, "/s/acme/erp/journal/2.seg")) {
		other_revokes();
		peer.id = NULL;
	}
	return plain_ops->wall_ms(clock);
}

static void test_key_revoked_while_its_segment_is_applied_makes_no_point(void **state)
{
	static const uint8_t bytes[4096] = {77};
	const struct change c = {0, 4096, sizeof(bytes), bytes};
	struct lab l;
	struct sosie_key_info k;
	struct model before;
	char line[SOSIE_PUBLIC_LINE];
	uint64_t point;
	int head;
	(void)state;
	start(&l);
	sign_uploads(&l, line);
	OK(&l, add(&l, line, SOSIE_KEY_SIGNING, NULL, &k));
	points(&l, 1);
	model_copy(&before, &l.model);
	struct make_upload u = lab_upload(&l, &c, 1);
	make_upload(&u);
	other_open(&l, k.id);
	hooked_ops.wall_ms = revoke_during_acceptance;
	lab_expect_refused(&l, &u, SOSIE_EAUTH);
	assert_null(peer.id);
	other_close();
	lab_head_state(&l, &head, &point);
	assert_int_equal(head, SOSIE_HEAD_VOID);
	assert_false(sosie_io_exists(l.io, "/s/acme/erp/journal/2.seg"));
	model_fini(&l.model);
	l.model = before;
	OK(&l, add(&l, line, SOSIE_KEY_SIGNING, NULL, &k));
	points(&l, 1);
	lab_check_points(&l);
	end_signing(&l);
}

static void test_keeper_that_runs_ends_a_revocation_that_was_killed(void **state)
{
	struct lab l;
	struct sosie_key_info k;
	struct audit_log *log;
	struct sosie_file *lock;
	(void)state;
	start(&l);
	OK(&l, add(&l, zero_line, SOSIE_KEY_SSH, NULL, &k));
	OK(&l, sosie_keeper_keys(l.store, "acme", &l.err));
	assert_true(copy_is_there(&l, k.id));
	other_open(&l, k.id);
	other_revokes();
	assert_true(copy_is_there(&l, k.id));
	/* The revocation may be at it: no keeper waits for that. */
	OK(&l, audit_log_get(peer.store, "acme", &log, &l.err));
	OK(&l, audit_lock(peer.store, log, 0, &lock, &l.err));
	OK(&l, sosie_keeper_keys(l.store, "acme", &l.err));
	assert_true(copy_is_there(&l, k.id));
	sosie_io_close(peer.io, lock, NULL);
	OK(&l, sosie_keeper_keys(l.store, "acme", &l.err));
	assert_false(copy_is_there(&l, k.id));
	other_close();
	lab_fini(&l);
}

/* --- a full disk
 * ----------------------------------------------------------------------------------------------- */

/* The entry finds no room: at call n. */
static bool revoke_without_room(uint64_t n, unsigned *out)
{
	struct lab l;
	struct sosie_key_info k;
	struct sosie_fault_plan plan = {.kind = SOSIE_FAULT_NONE};
	struct sosie_io *io;
	struct sosie_store *store;
	start(&l);
	OK(&l, add(&l, zero_line, SOSIE_KEY_SSH, NULL, &k));
	OK(&l, sosie_io_fault(l.io, &plan, &io, &l.err));
	OK(&l, sosie_store_open(io, &l.clock.clock, "/s", &store, &l.err));
	plan = (struct sosie_fault_plan){.kind = SOSIE_FAULT_ERROR, .at = n, .sys = ENOSPC};
	sosie_err_clear(&l.err);
	int rc = sosie_key_revoke(store, "acme", k.id, NULL, &l.err);
	bool fired = plan.fired > 0, said = strstr(l.err.action, "receivers refuse the key") != NULL;
	plan.kind = SOSIE_FAULT_NONE;
	sosie_store_close(store);
	sosie_io_free(io);
	assert_true(rc == 0 || !said || rc == -SOSIE_ENOSPACE);
	if (rc == 0 || said)
		assert_false(copy_is_there(&l, k.id));
	struct sosie_key *keys = list(&l, 1);
	*out += said && !keys[0].revoked_ms;
	free(keys);
	OK(&l, sosie_key_revoke(l.store, "acme", k.id, NULL, &l.err)); /* there is room again */
	keys = list(&l, 1);
	assert_true(keys[0].revoked_ms > 0);
	free(keys);
	assert_false(copy_is_there(&l, k.id));
	lab_fini(&l);
	return fired;
}

static void test_revocation_on_a_full_disk_keeps_the_sender_out_and_says_so(void **state)
{
	unsigned out = 0;
	(void)state;
	for (uint64_t n = 0; revoke_without_room(n, &out); n++)
		;
	assert_true(out >= 2);
}

/* --- narrowed
 * -------------------------------------------------------------------------------------------------- */

static void test_signing_key_that_is_narrowed_opens_no_group_for_unsigned_uploads(void **state)
{
	struct lab l;
	struct sosie_key_info k;
	char line[SOSIE_PUBLIC_LINE];
	(void)state;
	start(&l);
	sign_uploads(&l, line);
	OK(&l, add(&l, line, SOSIE_KEY_SIGNING, NULL, &k));
	points(&l, 1);
	OK(&l, sosie_key_revoke(l.store, "acme", k.id, "narrow", &l.err));
	OK(&l, add(&l, line, SOSIE_KEY_SIGNING, "erp", &k));
	again(&l);
	assert_int_equal(until(&l, "erp", k.id), INT64_MAX);
	assert_int_equal(until(&l, "crm", k.id), 0);
	other_open(&l, k.id);
	struct sosie_accept_result r = other_uploads("crm", NULL);
	assert_int_equal(r.refused, 1);
	assert_non_null(strstr(r.last.what, "is revoked"));
	assert_int_equal(other_uploads("web", l.signer).refused, 1);
	other_close();
	points(&l, 1);
	/* The same when it was for named groups. */
	OK(&l, sosie_key_revoke(l.store, "acme", k.id, NULL, &l.err));
	OK(&l, add(&l, line, SOSIE_KEY_SIGNING, "crm", &k));
	assert_int_equal(until(&l, "crm", k.id), INT64_MAX);
	assert_int_equal(until(&l, "erp", k.id), 2);
	end_signing(&l);
}

/* --- at the receiver
 * --------------------------------------------------------------------------------------------- */

/* Every step that names the group is answered with this code. */
static void expect_steps(struct lab *l, struct sosie_inbox *in, const char *group,
                         const struct sosie_upload_id *id, int code)
{
	struct sosie_name name = {""};
	struct sosie_upload_id fresh;
	struct sosie_part_state *parts;
	uint32_t count;
	char *text, bytes[8];
	size_t len, got;
	uint64_t total;
	bool committed;
	snprintf(name.s, sizeof(name.s), "%s", group);
	assert_int_equal(sosie_inbox_head(in, &name, &text, &len, &l->err), code);
	assert_int_equal(sosie_inbox_begin(in, &name, SOSIE_MANIFEST_SEGMENT, &fresh, &l->err), code);
	assert_int_equal(sosie_inbox_join(in, &name, id, &committed, &parts, &count, &l->err), code);
	assert_int_equal(sosie_inbox_part(in, &name, id, 7, &l->err), code);
	assert_int_equal(sosie_inbox_commit(in, &name, id, "{}", 2, &l->err), code);
	assert_int_equal(sosie_inbox_verdict(in, &name, id, &text, &len, &l->err), code);
	assert_int_equal(sosie_inbox_differs(in, &name, id, 0, bytes, sizeof(bytes), &got, &total, &l->err),
	                 code);
}

static void test_group_limited_key_is_refused_for_other_groups_in_each_step(void **state)
{
	static const struct sosie_name erp = {"erp"}, crm = {"crm"};
	struct lab l;
	struct sosie_key_info k;
	struct sosie_inbox *in;
	struct sosie_upload_id id, other;
	char *text;
	size_t len;
	(void)state;
	start(&l);
	OK(&l, add(&l, zero_line, SOSIE_KEY_SSH, "erp", &k));
	OK(&l, sosie_inbox_open(l.io, &l.clock.clock, "/s", "acme", k.id, &in, &l.err));
	OK(&l, sosie_inbox_begin(in, &crm, SOSIE_MANIFEST_SEGMENT, &other, &l.err));
	sosie_inbox_restrict(in, &erp, 1);
	expect_steps(&l, in, "crm", &other, -SOSIE_ENAME);
	expect_steps(&l, in, "er", &other, -SOSIE_ENAME);
	OK(&l, sosie_inbox_begin(in, &erp, SOSIE_MANIFEST_SEGMENT, &id, &l.err));
	OK(&l, sosie_inbox_head(in, &erp, &text, &len, &l.err));
	free(text);
	sosie_inbox_close(in);
	lab_fini(&l);
}

static void test_revoked_key_is_refused_at_the_next_step_also_inside_a_part(void **state)
{
	static const struct sosie_name erp = {"erp"};
	struct lab l;
	struct sosie_key_info k;
	struct sosie_inbox *in;
	struct sosie_upload_id id;
	(void)state;
	start(&l);
	OK(&l, add(&l, zero_line, SOSIE_KEY_SSH, NULL, &k));
	OK(&l, sosie_inbox_open(l.io, &l.clock.clock, "/s", "acme", k.id, &in, &l.err));
	OK(&l, sosie_inbox_begin(in, &erp, SOSIE_MANIFEST_SEGMENT, &id, &l.err));
	OK(&l, sosie_inbox_part(in, &erp, &id, 0, &l.err));
	OK(&l, sosie_inbox_data(in, "abc", 3, &l.err));
	OK(&l, sosie_inbox_sync(in, &l.err));
	OK(&l, sosie_key_revoke(l.store, "acme", k.id, NULL, &l.err));
	OK(&l, sosie_inbox_data(in, "abc", 3, &l.err));
	assert_int_equal(sosie_inbox_sync(in, &l.err), -SOSIE_EAUTH);
	assert_int_equal(sosie_inbox_part_end(in, &l.err), -SOSIE_EAUTH);
	expect_steps(&l, in, "erp", &id, -SOSIE_EAUTH);
	assert_int_equal(sosie_inbox_same(in, "{}", 2, &l.err), -SOSIE_EAUTH);
	sosie_inbox_close(in);
	assert_int_equal(sosie_inbox_open(l.io, &l.clock.clock, "/s", "acme", k.id, &in, &l.err),
	                 -SOSIE_EAUTH);
	lab_fini(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_key_added_revoked_and_added_anew_is_listed_so),
	        cmocka_unit_test(test_key_that_cannot_be_is_refused_and_leaves_no_entry),
	        cmocka_unit_test(test_key_number_of_a_tenant_is_bounded),
	        cmocka_unit_test(test_keys_without_a_log_count_and_are_recorded_by_the_first_entry),
	        cmocka_unit_test(test_copy_that_cannot_be_read_is_named_and_keeps_no_other_entry_away),
	        cmocka_unit_test(test_revocation_that_was_cut_is_whole_or_not_at_all),
	        cmocka_unit_test(test_signing_key_is_good_up_to_the_points_of_its_revocation),
	        cmocka_unit_test(test_one_key_for_both_uses_is_revoked_for_both),
	        cmocka_unit_test(test_signing_key_of_many_groups_is_revoked_in_several_entries),
	        cmocka_unit_test(test_revocation_waits_for_the_groups_and_says_when_it_cannot),
	        cmocka_unit_test(test_damaged_chain_of_one_group_holds_up_no_revocation),
	        cmocka_unit_test(test_signatures_are_nobodys_while_the_log_cannot_be_read),
	        cmocka_unit_test(test_revocation_takes_in_groups_made_while_it_waits),
	        cmocka_unit_test(test_key_revoked_while_its_segment_is_applied_makes_no_point),
	        cmocka_unit_test(test_keeper_that_runs_ends_a_revocation_that_was_killed),
	        cmocka_unit_test(test_revocation_on_a_full_disk_keeps_the_sender_out_and_says_so),
	        cmocka_unit_test(test_signing_key_that_is_narrowed_opens_no_group_for_unsigned_uploads),
	        cmocka_unit_test(test_group_limited_key_is_refused_for_other_groups_in_each_step),
	        cmocka_unit_test(test_revoked_key_is_refused_at_the_next_step_also_inside_a_part),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
