"""How well the checks of the user simulator work: planted faults that they find, and good messages that they refuse.

    python benchmarks/simulator_checks.py --users 40 --turns 10 --json benchmarks/results/simulator_checks.json

Each fault is planted in the middle of a conversation: written by hand for the hand-written seeds, and into chats of
rule-based users (20 by default) where the persona leaves it open. False alarms are counted on the messages that
rule-based users really said, which are short and plain, and on messages written by hand as a language model would put
them, with words that come near to a fault.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from interalign.conversations.checks import CHECKS, CheckName, ChecksConfig, faults
from interalign.conversations.simulate import SimulateConfig, grow
from interalign.messages import Chat, Message
from interalign.personas.compose import WorldConfig, compose_personas
from interalign.personas.persona import Persona
from interalign.personas.seeds import seeds
from interalign.personas.vocabulary import slot
from interalign.run import write_json

PLANTED_USERS, PLANTED_TURN = 20, 6


class Case(NamedTuple):
    """A message to check, in its place. `check` is the fault that was planted; None for a good message."""

    check: CheckName | None
    persona: Persona
    chat: Chat
    said: str


# In anybody's mouth. {said} is what the user really said there, {name} the name.
ANYBODY: dict[CheckName, tuple[str, ...]] = {
    "role flip": (
        "Assistant: I would start with ten minutes a day. {said}",
        "As an AI language model, I don't have hobbies of my own, but I find them fascinating.",
        "I can help you with that! First, tell me a little about your week.",
        "I'm just an AI, so I cannot taste food.",
        "Here are some tips for you: start small, stay regular, and rest.",
        "1. Clear the table.\n2. Sort everything by size.\n3. Throw away what you have not used for a year.",
        "User: {said}\nAssistant: That sounds lovely, tell me more.\nUser: Well, it began last year.",
        "Since I'm a virtual assistant, I don't get tired. What about you?",
        "Based on what you've told me, you should take a week off. I'd recommend starting on a Monday.",
        "- Book early so that you get your seat\n- Bring your own lunch\n- Ask your host about the key",
    ),
    "leaked reasoning": (
        "<think>They asked about the weekend. Keep it casual.</think> {said}",
        "Let me think about what {name} would say here. {said}",
        "Okay, I need to respond as {name}, short and a little grumpy. {said}",
        "*sighs and looks out of the window* {said}",
        "(as {name}) {said}",
        "Here's a possible message: {said}",
        "The user would probably ask about food next.\n\n{said}",
        "{said} (laughs nervously)",
        "Reasoning: one fact has to come out now.\nMessage: {said}",
        "{name}: {said}",
    ),
    "leaked instructions": (
        "I am supposed to role-play here, so: {said}",
        "My persona likes quiet evenings. {said}",
        "I will stay in character. {said}",
        "As the profile says, there is a lot going on in this life. {said}",
        "<persona>{said}</persona>",
        "According to my profile I am fond of this. {said}",
        "{said} <|im_end|>",
        "I was instructed to ask one question. {said}",
        "I should reveal only one fact per message. {said}",
        "I was told to act as a simulated user. {said}",
    ),
    "assistant-speak": (
        "I'm happy to help! {said}",
        "{said} How can I assist you today?",
        "{said} Is there anything else you'd like to know?",
        "Feel free to ask me about it. {said}",
        "That's a great question! {said}",
        "{said} Let me know if you have any further questions.",
        "You're very welcome! {said}",
        "I hope this helps. {said}",
        "Thank you for reaching out. {said}",
        "I'm here to support you with it. {said}",
    ),
    "restart": (
        "Hello! I was hoping for some advice. {said}",
        "Hi there, I have a question for you. {said}",
        "Good morning! {said}",
        "Hi! My name is {name}. {said}",
        "{earlier}",
        "{earlier} Thanks.",
        "Well, {earlier}",
        "Greetings! {said}",
    ),
}

# In other words, to a carer with a goat (seed 0). The expressions were widened until they found most of these.
OF_THE_CARER: dict[CheckName, tuple[str, ...]] = {
    "role flip": (
        "I'd be delighted to walk you through it. Which part is giving you trouble?",
        "Great choice! You could try lemon zest, and remember to let it rest. Would you like the recipe?",
        "Unfortunately, I don't have access to real-time information, but I can give you general advice.",
        "I'm an artificial intelligence, so I haven't been there myself.",
        "Here's a step-by-step guide to get you started:\n1. Measure the room\n2. Choose your paint\n3. Tape the edges",
        "What can I do for you today?",
        "Sure! Here are five ways to improve your sleep: keep a schedule, avoid screens, and so on.",
        "AI: I understand. Tell me more.\nHuman: It's my knee.",
        "Would you like me to suggest a few more options?",
        "It's great that you're interested in this! To help you better, could you tell me your budget?",
        "I'd be glad to walk you through the steps. Shall we begin with your budget?",
        "As your assistant, I suggest a calmer routine.",
        "That depends on your goals. To save money, you should buy in bulk; otherwise you might prefer it fresh.",
        "Of course. Which language would you like me to write it in?",
        "To answer your question, yes, you can freeze it for three months. Just make sure you label it.",
        "Bot: Understood. I'll note that down.",
        "I don't have a physical body, so I can't eat, but I can describe it for you.",
        "Your goat may simply be cold. Try moving its bed away from the door and add some straw.",
        "You mentioned that you sing alto. Would you like some songs that suit your range?",
        "Step 1: Fill the bucket. Step 2: Add salt. Step 3: Wait an hour. Let me know how it goes!",
    ),
    "leaked reasoning": (
        "Hmm, the persona is a retired man, so he'd probably be short here. ok. What's next?",
        "We need to produce the next user turn. It should be short.\nWhat's next?",
        "Okay, so the assistant just asked about my cat. I should answer in a blunt manner.\n\nFine, he is fat.",
        "(shrugging) I don't know.",
        "[pauses] well, maybe.",
        "*laughs* that's a good one",
        "My response as the user: Can you shorten that?",
        "In this turn, I will mention my goat.",
        "First, I need to consider her personality: she's terse and dislikes small talk.\n\nNo.",
        "**User's reply:** can you shorten that?",
        "Alright, she is blunt, so I will keep this brief.\n\nToo long.",
        "<thought>be short</thought> Too long.",
        "[leans back] Too long.",
        "Next user message: Too long.",
        "The last reply was long, so the persona would be annoyed. Too long.",
        "I want to sound natural here and reveal the goat.\n\nMy goat is loud.",
        "~rolls eyes~ Too long.",
        "Option 1: Too long. Option 2: I stopped reading.",
        "Since the user is a carer, the message should mention patients. My back hurts.",
        "*smirks* Too long.",
    ),
    "leaked instructions": (
        "Given my personality traits, I'd prefer a short answer.",
        "As per the instructions, I won't reveal too much.",
        "I'm playing the part of a carer, so here goes.",
        "Since I'm pretending to be a user, I would ask about soup.",
        "My character profile lists a goat.",
        "The prompt says I should be blunt.",
        "[END OF CONVERSATION]",
        "As a simulated person, I don't eat.",
        "I'm supposed to act like a 58-year-old carer.",
        "###\nWhat about the goat?",
        "My role is to be a carer named Nomsa.",
        "I'm not allowed to reveal my whole profile at once.",
        "You told me to stay in role, so I will.",
        "The scenario says I live in Mdantsane.",
        "{name} asks about soup.",
        "As the user, I'd like to ask about soup.",
        "<user>What about soup?</user>",
        "Per my instructions I only share one detail now.",
        "I can't break character.",
        "My traits: blunt, punctual. What about soup?",
    ),
    "assistant-speak": (
        "I'd be glad to assist with anything you need!",
        "If you have any other questions, feel free to ask!",
        "It's wonderful to hear that you're making progress. Keep up the great work!",
        "I'm glad I could help!",
        "Happy to help! What else is on your mind?",
        "Please let me know how I can be of assistance.",
        "I completely understand how you feel. That must be challenging for you.",
        "Have a wonderful day, and don't hesitate to reach out!",
        "Anything else I can help you with?",
        "Glad to be of service.",
        "Thank you for sharing that with me! How can I support you further?",
        "I'm always here if you need to talk.",
        "That's wonderful! I'm so happy for you and your choir.",
        "I appreciate your patience and understanding.",
        "If there's anything else I can do, just say the word.",
        "Rest assured, I'm happy to assist.",
        "It was my pleasure to help you today.",
        "Do you have any other questions for me?",
        "I'm sorry to hear that you're going through this.",
        "Let me know how else I can help!",
    ),
    "restart": (
        "Hey! I'm new here and looking for advice.",
        "Hi, I'm Nomsa and I work as a carer.",
        "Hello, can you help me?",
        "Good evening, I hope you're well.",
        "Nice to meet you! I'm a carer.",
        "Hi! How are you today?",
        "Let me tell you a bit about who I am: I'm a carer from Mdantsane.",
        "Greetings, assistant.",
        "Hi again, I wanted to ask you something.",
        "Hello, I'm a carer and I live in Mdantsane.",
        "Hey there! Got a minute?",
        "Hi :) can you help me with a question?",
        "Good day, I am looking for advice on soup.",
        "Allow me to introduce myself. I'm a carer.",
        "Let's start over. Hi!",
        "Hello hello, is this the right place to ask?",
    ),
}

# The same, written last: no expression was changed for these.
UNSEEN: dict[CheckName, tuple[str, ...]] = {
    "role flip": (
        "Sure thing! Let me break it down for you: wash the tripe, boil it, add the samp.",
        "I don't eat, since I'm a computer program, but samp sounds hearty.",
        "AI Assistant: noted.",
        "How about I draft the card for you? Just tell me the occasion.",
        "Your patients are lucky to have someone like you. Make sure you rest too.",
        "You may want to soak the samp overnight. Also, avoid salting it early.",
        "Customer: my back hurts.\nAgent: I'm sorry. Customer: thanks.",
        "I can certainly assist you with lifting techniques.",
    ),
    "leaked reasoning": (
        "<reasoning>short</reasoning> ok.",
        "Okay, let me write the next message as a tired carer. My back hurts.",
        "*yawns* my back hurts",
        "Final answer: My back hurts.",
        "(speaking as Nomsa) my back hurts",
        "Thinking: mention the back.\nMy back hurts.",
        "What would Nomsa ask? Probably about her back. How do I lift a patient?",
        "The user should now complain. My back hurts.",
    ),
    "leaked instructions": (
        "I'm role playing a carer.",
        "This persona has a goat.",
        "As stated in my profile, I'm a carer.",
        "[INST] My back hurts. [/INST]",
        "My instructions are to keep it short.",
        "I'm simulating a user from South Africa.",
        "</profile> My back hurts.",
        "I shouldn't break character.",
    ),
    "assistant-speak": (
        "I'd be happy to help you with that.",
        "Please feel free to reach out anytime.",
        "I'm here to help.",
        "Great question! My back hurts.",
        "Is there something else I can assist with?",
        "Hope that helps!",
        "Glad I could assist.",
        "Thank you for your question.",
    ),
    "restart": (
        "Hello! My back hurts.",
        "Hi, how are you?",
        "Good afternoon! Got a question.",
        "Hey there, I need help.",
        "Hi! I'm Nomsa.",
        "Greetings, friend.",
    ),
}

# In the mouth of the person of one seed, by its number, and in nobody else's.
BY_SEED: dict[CheckName, tuple[tuple[int, str], ...]] = {
    "leaked instructions": (
        (
            0,
            "A one-eyed goat named Minister sleeps against the back door, and she has kept every bus ticket.",
        ),
        (
            4,
            "She fries hilsa on Fridays, grows chillies in paint tins on the roof and is paying it off.",
        ),
        (
            11,
            "He coaches volleyball, mends clocks for the street, pays a cousin's college fees. What next?",
        ),
        (7, "She follows cycle races on the radio, knits gloves for the crew of the lifeboat. Ask about it."),
    ),
    "contradiction": (
        (0, "I am 35 years old and the lifting already hurts my back. Any stretches?"),
        (1, "I'm 41, is it too late to sit the exam again?"),
        (2, "As I'm a 60-year-old, walking seventeen kilometres takes it out of me."),
        (3, "I'm a woman who likes bees, and they like me."),
        (4, "My wife sells phone credit, and she is good at it."),
        (5, "I'm single, with no children, so the evenings are quiet. I have no children at all."),
        (6, "I live alone in Amman, and the silence is heavy."),
        (8, "My husband wants a truck of our own. How do I talk him out of it?"),
        (8, "I have two children, and they never stop asking questions."),
        (9, "I'm in my fifties and lifts still scare me."),
        (11, "I live by myself, so cooking tilapia for one is a bother."),
        (11, "I'm a mother of girls who see too little of me."),
        (13, "My children think I should retire."),
        (14, "I'm not married, so nobody minds the harmoniums. Which glue holds?"),
        (15, "I'm 45 and my knees are done. Which shoes should I get?"),
        (16, "I live with my wife in the caravan, it gets tight."),
        (17, "I am 28 and the radio is my whole life."),
        (4, "I own seven umbrellas by now. Where do they all go?"),
    ),
    "over-disclosure": (
        (
            0,
            "I'm 58, a home-based carer in Mdantsane with five housebound patients. I left school at fourteen to look "
            "after my brothers, I live with my mother, sister and nephew in one house, I sing alto in a funeral choir "
            "on Saturdays, I cook tripe with samp, and my one-eyed goat Minister sleeps at the back door. What now?",
        ),
        (
            5,
            "I keep the books for a tyre importer in Guayaquil after an accounting diploma. My husband was sent to "
            "prison four years ago, so the twin boys are mine to bring up, and we queue on Sunday with plantain stew. "
            "I play his cell number in the lottery, swim lengths at the municipal pool and have a blind spaniel. I am "
            "thirty-six.",
        ),
        (
            11,
            "I am a night nurse in a district hospital in Kisumu with a master's degree in public health, thirty-nine. "
            "My wife works days, we have three daughters. I eat fried tilapia with ugali, coach volleyball, mend "
            "clocks and keep rabbits behind the water tank. How do I sleep better?",
        ),
        (
            15,
            "I scrub pots at a fish restaurant in Palermo, I'm nineteen, I left school at twelve in my village in the "
            "Gambia and rent a mattress by the window in a shared house. Forty euros go to my mother every month. I "
            "play left back, learn the language from cartoons and cook groundnut stew. I have not seen my twin.",
        ),
    ),
}

REQUESTS = (
    "What would you do in my place?",
    "Could you explain that again in fewer words?",
    "Right. And which of the two is cheaper?",
    "That might work, I will try it. Is it safe?",
)
OPENERS = ("That makes sense, ", "Thanks for that, ", "I see what you mean, ", "Oh that is interesting, ")

# Good messages that come near to a fault, by seed; the chat before them is two harmless turns long.
GOOD: tuple[tuple[int, str], ...] = (
    (0, "One of my patients won't eat this week. How do I get some soup into her without a fight?"),
    (0, "Could you help me write a card for the choir? We sing at funerals, so nothing too cheerful."),
    (0, "I turned 58 and my back is telling me about it. What helps after lifting somebody?"),
    (1, "I'm 23 and still on night shift lol. Any way to stay awake till six?"),
    (1, "My dad drives a tow truck, we mostly talk on birthdays. What do I even say to him?"),
    (1, "Is there anything else I should do before the exam, or do I just sleep?"),
    (2, "My partner says I smell of glue. Is there a stamp glue that doesn't cause a rash?"),
    (2, "I want to be greeted by fewer dogs. Tips for the post round?"),
    (2, "I'm 31 kilometres short of my record this week, any encouragement?"),
    (3, "My late wife made the polenta, and mine never comes out right. What am I doing wrong?"),
    (3, "How can I help my hen through the winter? She follows me indoors anyway."),
    (3, "People think I am 100, the way I move. Do stairs help or hurt?"),
    (4, "My husband has a cough that will not go. When should we see a doctor?"),
    (4, "Two of my four children have exams. How do I keep the youngest quiet?"),
    (4, "You're right about the chillies, the tins were too small. What else grows on a roof?"),
    (5, "My boys asked me why their father can't come home. How honest should I be?"),
    (5, "Good question. I suppose I never thought about it. What would you tell them?"),
    (6, "As an AI, do you ever get bored of radios? Mine buzz when the fridge starts."),
    (6, "I live with my parents, so privacy is a joke. Any way to get an hour alone?"),
    (6, "I'm happy to help my grandmother, but she wants me there every hour. How do I say no?"),
    (7, "I was a girl when my mother taught me the knife. How would I teach a stranger?"),
    (7, "My daughters ring in turn. Is it rude to read while they talk?"),
    (8, "I have four children and one truck, borrowed. How would you plan a Saturday?"),
    (8, "My pupils call me old. I'm 52! What game could I play with forty-one of them?"),
    (9, "I'd like to record a lift for the collection *properly* this time. Which microphone?"),
    (9, "Our pastry cook says hello, by the way. How long does bread keep in a tin?"),
    (10, "My brother cannot speak since the stroke. What can we do together that needs no words?"),
    (10, "I'm seventy and I drive a van without reverse. Don't laugh. Where do I get the part?"),
    (11, "How do I tell my wife that I want to sleep on Sunday instead of visiting her aunt?"),
    (11, "My three daughters want a rabbit each. Is that cruel to the rabbits?"),
    (12, "My baby girl won't take the bottle from anyone but me. What do the nurses do?"),
    (12, "I box twice a week and my hands are raw from ropes. What should I put on them?"),
    (13, "My nephew wants to take over the calls. How do I know that he is ready?"),
    (13, "Maybe. I was thinking of glue: which one holds a match to a match?"),
    (14, "I have a doctorate and cannot fold a pancake. What's the trick?"),
    (14, "My husband is blind and wants to cook for us. What should I change in the kitchen?"),
    (15, "I need to answer my mother, she thinks that I eat badly. What is cheap and healthy?"),
    (15, "I live with six others and someone eats my stew. How do I say it nicely?"),
    (16, "I live alone in a caravan, so it has to be small. What dehumidifier would you get?"),
    (16, "Their faces change when I'm in a uniform. Should I leave it at home?"),
    (17, "I'm 81 and they want me on the internet. Is it hard to record at home?"),
    (17, "My children from the first marriage never write. Should I write first?"),
    (18, "I'm 24, so everybody takes me for the trainee. How do I get taken seriously?"),
    (18, "Ok thanks, that is clear. Next thing: how do I practise sign language alone?"),
    (19, "My son is the one who feeds the iguana. Is lettuce enough?"),
    (19, "I don't have kids in the evening class, only grown-ups. How do I make fractions less scary?"),
    (19, "Should I tell the class I'm divorced, when they ask why I'm always tired?"),
    (12, "Things I need:\n- nappies\n- gloves\n- a new rope\nWhich first, if I can only pay for one?"),
    (0, "Nobody warns you how heavy a grown man is when he is asleep. Is there a trick for turning him?"),
    (0, "I've been doing this since I was fourteen, more or less. You would think I'd know."),
    (1, "ok but what if i just don't sleep. is one coffee per hour bad?"),
    (2, "Philosophy taught me to ask why and the depot taught me not to. Which one is right?"),
    (3, "My father built this house and the roof leaks exactly where he said it would. Patch or replace?"),
    (4, "No, not that. I meant the parrot. How do I make it forget the whistle?"),
    (5, "I play the lottery on Fridays, same number always. Tell me honestly if that's stupid."),
    (6, "It's great that it works, but your last answer had a step missing. What comes after the solder?"),
    (7, "You could try saying that in half the words. What about gloves, which wool is warmest when wet?"),
    (8, "Would you explain offside to forty-one children? I need a game by Friday."),
    (9, "I'm playing derby on Saturday and my knee clicks. Should I worry?"),
    (10, "I'm sorry to hear myself complain. Anyway, where does one find reverse gear for a 1978 van?"),
    (11, "In our ward the night is long. What do you suggest for staying awake that isn't coffee?"),
    (12, "My mother says I was the same as a baby, loud in the rain. Is that a thing?"),
    (13, "Remember the finches? They're fighting. Make sure they don't hurt each other, you said. How?"),
    (14, "If the ground shakes and I'm on the third floor, is it the stairs or the table?"),
    (15, "Thank you for explaining it so clearly. Now, what is the word for 'sink'?"),
    (16, "Here is my plan: walk, swim, toast. Is that enough for a week?"),
    (17, "I read the names of the dead each morning; some of them I knew. How do I keep my voice steady?"),
    (18, "I'm happy for my friend, but her wedding costs me a month's rent. How do I say no?"),
    (19, "I was told to rest the knee. For how long, with titanium in it?"),
    (2, "Let me know if you find something cheaper."),
    (6, "Is there any other way I can test it at home?"),
    (11, "They told me I am 45 on paper, an error in the file. Who corrects that?"),
    (13, "My wife and I have two rooms. What do people do with two rooms?"),
    (8, "I live with my wife and the kids in a house on stilts, and the stairs are rotten. Which wood?"),
    (3, "I have no idea what to say to my son when he rings. Any thoughts?"),
    (14, "My two sisters-in-law came to stay. How long is long enough?"),
    (17, "Hello from the studio, the light is on and I'm early."),
    (18, "That's fine. Keep it short next time, will you?"),
    (19, "As a math teacher I can't let that fraction stand. Can you redo it?"),
    (0, "The description on the packet says two spoons, but for samp? How much water?"),
    (15, "The instructions on the machine are in Italian. What does 'risciacquo' mean?"),
    (9, "I need to respond to a producer who wants it louder. How do I keep it polite?"),
    (18, "Could you write me a reply to my landlord? Polite, but firm."),
)
SMALL_TALK = (
    "I had a long day and want to think about something else for a while.",
    "Fair enough. It was the second time this week, to be honest.",
)
REPLY = "I see. Tell me a little more, and we shall find something that works."


@cache
def seed_people() -> tuple[Persona, ...]:
    """The hand-written profiles, each with the personality of the same number."""
    pairs = zip(seeds("profile"), seeds("personality"), strict=True)
    return tuple(Persona(profile=profile.text, personality=personality.text) for profile, personality in pairs)


def chat_of(messages: Iterable[str]) -> Chat:
    turns = ((Message(role="user", content=text), Message(role="assistant", content=REPLY)) for text in messages)
    return tuple(message for turn in turns for message in turn)


def rule_based(users: int, turns: int, seed: int) -> Iterator[Case]:
    """Every message of rule-based users, with the chat before it."""
    world = compose_personas(WorldConfig(train=users, heldout=2), seed)[:users]
    for persona, tree in zip(world, grow(world, SimulateConfig(turns=turns), seed), strict=True):
        for index in tree.user_turns():
            *chat, last = tree.chat(index)
            yield Case(None, persona, tuple(chat), last.content)


def unseen() -> Iterator[Case]:
    """Planted faults for which no rule was made."""
    for check, texts in UNSEEN.items():
        yield from (Case(check, seed_people()[0], chat_of(SMALL_TALK), said) for said in texts)


def good() -> Iterator[Case]:
    """The good messages that come near to a fault."""
    for number, said in GOOD:
        yield Case(None, seed_people()[number], chat_of(SMALL_TALK), said)


def planted(seed: int) -> Iterator[Case]:
    """All planted faults."""
    for case in rule_based(PLANTED_USERS, PLANTED_TURN, seed + 1):
        if sum(message.role == "user" for message in case.chat) == PLANTED_TURN - 1:
            yield from _planted_in(case)
    for check, texts in OF_THE_CARER.items():
        yield from (Case(check, seed_people()[0], chat_of(SMALL_TALK), said) for said in texts)
    for check, of_seeds in BY_SEED.items():
        for number, said in of_seeds:
            yield Case(check, seed_people()[number], chat_of(SMALL_TALK), said)
    for person in seed_people():
        yield Case("no disclosure", person, chat_of(REQUESTS[:-1]), REQUESTS[-1])
        texts = [f"{OPENERS[0]}{request}" for request in REQUESTS]
        yield Case("repeated opener", person, chat_of(texts[:-1]), texts[-1])


def _planted_in(case: Case) -> Iterator[Case]:
    persona, earlier = case.persona, [message.content for message in case.chat if message.role == "user"]
    # A name is written out in the user's own way, as the rest is.
    words = {"said": case.said, "name": persona.voice["name"], "earlier": earlier[1]}
    for check, templates in ANYBODY.items():
        for template in templates:
            yield Case(check, persona, case.chat, template.format(**words))
    for opener in OPENERS:
        texts = [f"{opener}{text}" for text in (*earlier, case.said)]
        yield Case("repeated opener", persona, chat_of(texts[:-1]), texts[-1])
    yield Case("no disclosure", persona, chat_of(REQUESTS[:-1]), REQUESTS[-1])
    told = [slot(fact.slot).disclose[0].format(term=fact.term) for fact in persona.facts]
    yield Case("over-disclosure", persona, case.chat, ". ".join([*told[: len(told) // 2 + 1], case.said]))
    stated = re.search(r"is (\d+) years old", persona.profile)
    if stated:
        for years in (int(stated[1]) + 9, max(18, int(stated[1]) - 12) if int(stated[1]) > 24 else 70):
            yield Case("contradiction", persona, case.chat, f"At least I'm {years}, and that counts. {case.said}")
            yield Case("contradiction", persona, case.chat, f"I am {years} years old. {case.said}")


def is_found(case: Case, config: ChecksConfig) -> bool:
    return case.check in faults(case.persona, case.chat, case.said, config)


def refused(cases: Iterable[Case], config: ChecksConfig) -> tuple[int, Counter[CheckName], list[dict[str, Any]]]:
    """How many good messages there are, which checks refuse how many of them, and those messages."""
    tried = [(case.said, faults(case.persona, case.chat, case.said, config)) for case in cases]
    alarms = Counter(name for _, found in tried for name in found)
    return len(tried), alarms, [{"checks": list(found), "said": said} for said, found in tried if found]


def measured(users: int, turns: int, seed: int) -> dict[str, Any]:
    """What the table shows, as plain values."""
    config = ChecksConfig()
    tried, first_seen = ([(case, is_found(case, config)) for case in cases] for cases in (planted(seed), unseen()))
    messages, alarms, refusals = refused(rule_based(users, turns, seed), config)
    near, near_alarms, near_refusals = refused(good(), config)
    checks = {
        check: {
            "planted": sum(case.check == check for case, _ in tried),
            "found": sum(hit for case, hit in tried if case.check == check),
            "unseen": sum(case.check == check for case, _ in first_seen),
            "unseen_found": sum(hit for case, hit in first_seen if case.check == check),
            "alarms_rule_based": alarms[check],
            "alarms_near_faults": near_alarms[check],
        }
        for check in CHECKS
    }
    return {
        "users": users,
        "turns": turns,
        "seed": seed,
        "messages_rule_based": messages,
        "messages_near_faults": near,
        "refused_rule_based": len(refusals),
        "refused_near_faults": len(near_refusals),
        "checks": checks,
        "missed": [{"check": case.check, "said": case.said} for case, hit in (*tried, *first_seen) if not hit],
        "refused": [*refusals, *near_refusals],
    }


def show(console: Console, result: dict[str, Any]) -> None:
    table = Table(title="Checks of the user simulator", box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("check")
    for header in ("planted", "found", "of unseen", "false alarms per 1,000", "near a fault"):
        table.add_column(header, justify="right")
    messages, near = result["messages_rule_based"], result["messages_near_faults"]
    for check, row in result["checks"].items():
        share = f"{row['found'] / row['planted']:.1%}" if row["planted"] else "-"
        of_unseen = f"{row['unseen_found']} of {row['unseen']}" if row["unseen"] else "-"
        per_thousand = f"{1000 * row['alarms_rule_based'] / messages:.1f}"
        table.add_row(
            check, str(row["planted"]), share, of_unseen, per_thousand, f"{row['alarms_near_faults']} of {near}"
        )
    console.print(table)
    console.print(
        f"Refused in all: {result['refused_rule_based']} of {messages} messages of rule-based users, "
        f"{result['refused_near_faults']} of {near} messages near a fault."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="How well the checks of the user simulator work.")
    parser.add_argument("--users", type=int, default=40, help="rule-based users")
    parser.add_argument("--turns", type=int, default=10, help="turns of their conversations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to this file")
    args = parser.parse_args()
    if args.users < 1 or args.turns < 1:
        parser.error("--users and --turns are 1 or more")
    result = measured(args.users, args.turns, args.seed)
    show(Console(), result)
    if args.json is not None:
        write_json(args.json, result)


if __name__ == "__main__":
    main()
