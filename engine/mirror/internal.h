/* SPDX-License-Identifier: MIT */
/*
 * What the files of the mirror share.
 *
 * One lock, m->lock, guards everything here that is not said to be otherwise. It is never held while a
 * driver, a replicator, a connection, a file, a program or the log is called, so that nothing that hangs
 * hangs the mirror. (Of a pool only its pause is looked at under it, which waits for nothing.) Locks taken
 * under it: a group's progress_lock and the pool's own. A group's source and replicator belong to the thread
 * that has taken the group (turn TURN_BUSY), to nobody else.
 *
 *   scheduler   one: grows the pool, samples ages, opens and closes alarms
 *   workers     1 to groups + 1: take the group that is due longest, look, replicate, say when it is due
 *   couriers    one a standby: "same" for groups that were looked at; closes sessions that nobody uses; ends
 *               with its standby, which it frees
 *   watchers    one a filesystem that holds views: its free space; ends when no group uses it any more
 *   herald      one: the operator's alarm program
 *   crier       one: what is said in the log
 *   scribe      one: the metrics file
 *
 *   TURN_HEAP --due--> TURN_BUSY --looked at, or cycle done--> TURN_HEAP
 *                        |  ^-- slot free -- TURN_HEAP, with a slot
 *                        +--no slot--> TURN_QUEUE
 */
#ifndef ENGINE_MIRROR_INTERNAL_H
#define ENGINE_MIRROR_INTERNAL_H

#include <pthread.h>

#include "sosie/json.h"
#include "sosie/log.h"
#include "sosie/mirror.h"
#include "sosie/telling.h"

#ifdef __has_feature
#define MIRROR_FEATURE(x) __has_feature(x)
#else
#define MIRROR_FEATURE(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || MIRROR_FEATURE(address_sanitizer)
#define MIRROR_STACK (4u << 20) /* frames of instrumented code are larger */
#else
#define MIRROR_STACK (512u << 10)
#endif
#define RPO_MINUTES 60
#define NEVER INT64_MAX
#define RETRY_MIN_MS 1000
#define RETRY_MAX_MS 60000
#define LOOK_AGAIN_MS 3600000 /* kind auto */
#define GROUP_LABEL (2 * SOSIE_NAME_MAX + 2)

/* A configuration lives as long as a group or standby made of it. */
struct config_ref {
	struct sosie_config *config;
	void (*free)(struct sosie_config *config);
	unsigned refs;
};

/* Bytes a second over all groups. */
struct budget {
	struct budget *next;
	struct sosie_budget *budget; /* NULL: no limit */
	uint64_t rate;
};

struct mirror_standby {
	struct mirror_standby *next;
	struct sosie_mirror *m;
	const struct sosie_config_standby *config;
	struct config_ref *ref;
	char label[SOSIE_TARGET_TEXT];     /* USER@HOST:PORT */
	struct sosie_connector *connector; /* not changed once the standby is there */
	struct sosie_pool *pool;
	unsigned groups;                         /* that belong to it */
	unsigned running;                        /* slots taken */
	struct mirror_group *queue, **queue_end; /* groups that wait for a slot */
	uint64_t shortest_ms;                    /* interval of its groups */
	/* courier */
	pthread_cond_t wake;
	unsigned batch;   /* groups with something to say */
	int64_t batch_ms; /* when the first of them came */
	int64_t sent_ms;  /* last message */
	int64_t stamp_ms; /* atomic: its last turn */
	int64_t tidied_ms;
	bool sending, leaving;
	bool checking; /* one of its groups asks for the head: one at a time */
	uint64_t same_messages;
	/* the connection */
	int64_t lost_ms; /* -1: not lost, as far as is known */
	bool alarmed;
	struct sosie_err error;
};

enum group_state {
	GROUP_STARTING,
	GROUP_FIRST, /* first copy */
	GROUP_MIRRORING,
	GROUP_IDLE,
	GROUP_CATCHING, /* catching up: behind by more than an interval or two */
	GROUP_WAITING,  /* for the standby */
	GROUP_RETRYING, /* after an error that may pass */
	GROUP_STOPPED,  /* cuts would hold writers too long */
	GROUP_NEEDS,    /* needs you */
	GROUP_FENCED,
	GROUP_STATES
};

enum turn { TURN_HEAP, TURN_BUSY, TURN_QUEUE };

/* One minute's worst age each; the index is the minute of the monotonic clock. */
struct rpo_window {
	int64_t minute;                /* of the newest bucket */
	int64_t worst_ms[RPO_MINUTES]; /* -1: nothing known of that minute */
};

struct group_counters {
	uint64_t read, changed, wire, cycles, errors, looks;
	uint64_t stall_us;
};

struct mirror_fs;
struct mirror_group {
	struct sosie_progress progress; /* first: the engine's pointer is ours */
	struct mirror_group *next, *queue_next;
	struct sosie_mirror *m;
	struct mirror_standby *standby;
	const struct sosie_config_group *config;
	struct config_ref *ref;
	char label[GROUP_LABEL]; /* tenant/group */
	/* a changed configuration that waits for the end of the turn; NULL: none */
	const struct sosie_config_group *new_config;
	struct config_ref *new_ref;
	struct mirror_standby *new_standby;
	bool changing; /* the turn has taken a new configuration, and is about to put it in force */
	bool leaving;
	unsigned refs;     /* couriers that hold it */
	bool stop;         /* atomic: the engine reads it without the lock */
	bool let_views_go; /* atomic, as stop */
	/* schedule */
	enum turn turn;
	size_t heap_at;
	int64_t due_ms;
	bool has_slot;
	int64_t backoff_ms;
	int64_t last_cut_ms;   /* -1: none by this process */
	uint64_t cuts_counted; /* of the source that is open: in count.stall_us already */
	int64_t look_ms;       /* idle: when it is looked at again; it may be due before, to check */
	int64_t check_ms;      /* when the standby's head is asked for, if it is idle then */
	int64_t checked_ms;    /* when that was done last */
	int64_t rest_ms;       /* scan in place of views: not before then */
	/* source and replicator: the turn's */
	struct sosie_source *source;
	struct sosie_replicator *replicator;
	enum sosie_source_kind opened_kind;
	char reason[200];
	int64_t opened_ms, forced_until_ms; /* scan in place of a clone that costs too much */
	char driver[16];
	struct mirror_fs **fs; /* that hold its views; made by the turn, read under the lock */
	unsigned fs_count;
	bool fs_missing;   /* the turn's: a volume was not there when fs was made */
	uint64_t fs_mount; /* the turn's: the first volume's mount then */
	/* what is known */
	enum group_state state;
	bool exists, view_held, unchanged;
	uint64_t point;
	int64_t accepted_ms;    /* monotonic: the cut of the newest accepted point, or the newest acknowledged
	                           same;    INT64_MIN: not known */
	bool accepted_guessed;  /* it is the cut that the state recorded: the first acceptance tells whether
	                           anything was written since */
	int64_t since_ms;       /* when this mirror took it over */
	int64_t change_wall_ms; /* 0: none seen */
	bool labelled;          /* consistency is known */
	enum sosie_consistency consistency;
	struct sosie_same same;
	bool same_pending;
	struct sosie_cut_facts facts;
	bool facts_known;
	struct rpo_window rpo;
	struct sosie_err error; /* code 0: none */
	int64_t error_wall_ms;
	char told[512];
	struct group_counters count;
	/* progress of the cycle under way; own lock: the engine's threads write it often */
	pthread_mutex_t progress_lock;
	uint64_t step_done, step_total, step_first, rate; /* rate: bytes a second, 0: not known */
	int64_t step_ms;
	uint64_t backlog; /* of a cycle that failed */
	int64_t cycle_ms; /* how long the last cycle took */
	/* what differed from the accepted view when a group that is behind was looked at last */
	bool behind_looked, behind_known;
	int64_t behind_ms;
	uint64_t behind_bytes;
	unsigned alarms; /* bits of enum alarm_kind that are open */
};

enum alarm_kind {
	ALARM_RPO,
	ALARM_STANDBY,
	ALARM_FENCED,
	ALARM_REFUSED,
	ALARM_NEEDS,
	ALARM_LONG_CUT,
	ALARM_FUZZY,
	ALARM_SPACE,
	ALARM_CONFIG,
	ALARM_KINDS
};

struct alarm {
	struct alarm *next;
	uint64_t id;
	enum alarm_kind kind;
	char about[256]; /* group, standby, filesystem, file */
	char text[600];
	int64_t since_wall_ms, closed_wall_ms; /* closed: 0 while open */
	struct sosie_telling telling;
};

struct mirror_fs {
	struct mirror_fs *next;
	struct sosie_mirror *m;
	uint64_t id, dev; /* mount and device number */
	char path[4096];  /* a folder there */
	bool gone;        /* the path is on another filesystem by now: nobody watches this one any more */
	uint64_t free_bytes, total_bytes, reserve_bytes;
	int64_t looked_ms;   /* -1: not yet */
	int64_t given_up_ms; /* when views were made to give back their space, 0: not since it was enough */
	bool low;
	unsigned drops;
	unsigned finders; /* turns that have found it, and will have it in their group's list */
};

struct sosie_mirror {
	pthread_mutex_t lock;
	pthread_cond_t work;  /* the worker that waits for the next due group */
	pthread_cond_t spare; /* idle workers */
	pthread_cond_t tick;  /* the scheduler */
	pthread_cond_t herald_wake, crier_wake, scribe_wake, space_wake;
	pthread_cond_t ended;      /* a thread has ended */
	pthread_mutex_t tell_lock; /* taken without m->lock, held while tell runs */
	struct sosie_mirror_options o;
	struct sosie_clock *clock;
	struct config_ref *config; /* the newest: settings of the whole */
	struct mirror_standby *standbys;
	struct mirror_group *groups;
	unsigned group_count;
	struct mirror_group **heap; /* by due_ms, room for all groups */
	size_t heap_len, heap_size;
	struct budget *budgets; /* the first is the one in force; older ones may still be used */
	struct mirror_fs *filesystems;
	struct alarm *alarms;
	struct log_line *lines, **lines_end; /* crier.c */
	unsigned line_count, lines_lost;
	uint64_t alarm_next;
	unsigned threads, workers, idle_workers;
	struct mirror_thread *thread_list; /* also those that have ended and were not joined yet */
	bool leader;                       /* an idle worker watches the heap */
	bool stopping;                     /* atomic too */
	int64_t stamp_ms;                  /* atomic: the scheduler's last turn */
	int64_t started_wall_ms;
};

/* mirror.c */
int64_t mirror_now(const struct sosie_mirror *m);
/* With the lock held, both. */
int mirror_thread(struct sosie_mirror *m, void *(*run)(void *), void *arg, struct sosie_err *err);
void mirror_thread_ended(struct sosie_mirror *m); /* the thread touches m no more, once it has unlocked */
/* Waits on cond until then (NEVER: for ever); the lock is held. */
void mirror_wait(struct sosie_mirror *m, pthread_cond_t *cond, int64_t until_ms);
int mirror_cond_init(pthread_cond_t *cond);
void config_ref_drop(struct config_ref *ref);
void mirror_tell(struct mirror_group *g, const struct sosie_cycle_result *r, const struct sosie_err *err);

/* crier.c */
/* With the lock held. */
void mirror_say(struct sosie_mirror *m, enum sosie_log_level level, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
void mirror_say_rest(struct sosie_mirror *m); /* no thread is left */
void *crier_run(void *arg);

/* heap.c: with the lock held */
int heap_reserve(struct sosie_mirror *m, size_t count, struct sosie_err *err);
void heap_push(struct mirror_group *g, int64_t due_ms);
struct mirror_group *heap_take(struct sosie_mirror *m, int64_t now_ms); /* NULL: none is due */
void heap_remove(struct mirror_group *g);
/* Due now, wherever it waits; the end of its turn sees to one that is busy. sleepers: also one that waits for
 * ever. */
void heap_wake(struct mirror_group *g, bool sleepers);
int64_t heap_next(const struct sosie_mirror *m); /* NEVER: empty */

/* mirror.c, for reload.c */
int budget_new(struct sosie_mirror *m, uint64_t rate, struct budget **out, struct sosie_err *err);
int config_ref_new(struct sosie_mirror *m, struct sosie_config *config, struct config_ref **out,
                   struct sosie_err *err);
void mirror_link(struct sosie_mirror *m, struct mirror_group *g); /* with the lock held: it is due now */
void mirror_recount(struct sosie_mirror *m); /* with the lock held: what standbys know of their groups */

/* standby.c */
int standby_new(struct sosie_mirror *m, const struct sosie_config_standby *config, struct config_ref *ref,
                struct mirror_standby **out, struct sosie_err *err);
int standby_start(struct mirror_standby *s, struct sosie_err *err);
void standby_free(struct mirror_standby *s); /* its courier has ended, or is the caller */
void standby_same_add(struct mirror_group *g, const struct sosie_same *same);
bool standby_slot_take(struct mirror_group *g); /* false: queued, and not the caller's any more */
void standby_slot_give(struct mirror_group *g);
void standby_unqueue(struct mirror_group *g);
void standby_failed(struct mirror_standby *s, const struct sosie_err *err);
void standby_answered(struct mirror_standby *s);
bool standby_is_loss(enum sosie_code code);

/* worker.c */
void *mirror_worker(void *arg);
void mirror_hand_over(struct sosie_mirror *m);
void mirror_grow(struct sosie_mirror *m, int64_t now_ms);

/* group.c: the parts that need what only the turn may touch */
int group_new(struct sosie_mirror *m, struct mirror_standby *s, const struct sosie_config_group *config,
              struct config_ref *ref, struct mirror_group **out, struct sosie_err *err);
void group_free(struct mirror_group *g); /* unlinked, nobody has it */
int group_open(struct mirror_group *g, struct sosie_err *err);
int group_close(struct mirror_group *g, bool drop_views, struct sosie_err *err); /* closed, also on error */
int64_t group_grid(const struct mirror_group *g, int64_t now_ms); /* next time on the grid of its interval */

/* turn.c */
void turn_run(struct mirror_group *g); /* takes the group through its turn; the lock is not held */

/* cut.c */
/* Looks at what a cut would cost. True: cut now. False: *due_ms says when to look again. */
bool cut_allowed(struct mirror_group *g, int64_t *due_ms);
/* What the driver knows of its cuts now, noted for the status; false: nothing. */
bool cut_look(struct mirror_group *g, struct sosie_cut_facts *facts);
void cut_measured(struct mirror_group *g);

/* rpo.c: with the lock held */
void rpo_init(struct rpo_window *w);
int64_t rpo_worst(const struct rpo_window *w, int64_t now_ms);   /* -1: not known */
int64_t group_age(const struct mirror_group *g, int64_t now_ms); /* -1: not known */
bool group_late(const struct mirror_group *g, int64_t now_ms);
void group_accepted(struct mirror_group *g, int64_t cut_ms);
void rpo_sample(struct sosie_mirror *m, int64_t now_ms);
uint64_t group_backlog(struct mirror_group *g, uint64_t *catch_up_ms, bool *known);

/* check.c: idle groups ask for the head now and then */
/* True: the turn's group is to be checked now; ends with check_done. Not under the lock. */
bool check_begin(struct mirror_group *g);
bool check_is_due(struct mirror_group *g); /* not under the lock */
void check_done(struct mirror_group *g, int rc);
void check_later(struct mirror_group *g); /* with the lock held: the head was seen just now */
void check_all(struct mirror_standby *s); /* with the lock held: one was found fenced */
int64_t check_due(struct mirror_group *g,
                  int64_t due_ms); /* with the lock held: that, or the check before it */

/* behind.c */
void behind_look(struct mirror_group *g); /* by the turn, between cycles; not under the lock */

/* space.c */
/* Fills in g->fs where it may not be so any more: at the opening of the source, and when what the volumes lie
 * on has changed. Not under the lock. */
int space_find(struct mirror_group *g, struct sosie_err *err);
void space_forget(struct mirror_group *g);    /* it holds no views: none matters. Not under the lock. */
bool space_low(const struct mirror_group *g); /* with the lock held */

/* alarm.c: with the lock held */
void alarm_set(struct sosie_mirror *m, enum alarm_kind kind, const char *about,
               const char *text); /* NULL: close */
void alarm_group(struct mirror_group *g, enum alarm_kind kind, bool open, const char *fmt, ...)
        __attribute__((format(printf, 4, 5)));
void alarm_group_gone(struct mirror_group *g);
void alarms_free(struct sosie_mirror *m);
void alarms_tell_again(struct sosie_mirror *m); /* there may be another program */
void *herald_run(void *arg);
void alarm_json(struct sosie_json *obj, const struct alarm *a);

/* status.c, metrics.c */
const char *group_state_name(enum group_state state);
void *scribe_run(void *arg);

#endif
