//! Chat templates as models and their fine-tunes come with them, and the prompts that are right.

/// A template, and whether the model begins its replies with a line break of its own.
pub struct Given {
    pub name: &'static str,
    pub jinja: &'static str,
    /// What the Go template adds to the prompt.
    pub added: &'static str,
}

/// Written for these tests in the manner of what is published.
pub const GIVEN: [Given; 12] = [
    // The cases `glm-edge-modelfile` and `glm4-own-template-modelfile` of the developers' shared folder.
    Given {
        name: "GLM-Edge",
        jinja: "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{% endfor %}<|assistant|>",
        added: "\n",
    },
    Given {
        name: "LLaMA-Factory's nurse who thinks",
        jinja: "[gMASK]<sop>{% for m in messages %}{% if loop.first and m['role'] != 'system' %}<|system|>\nYou are a \
            nurse.{% endif %}<|{{ m['role'] }}|>\n{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}\
            <|assistant|>\n<think>{% endif %}",
        added: "",
    },
    Given {
        name: "GLM-4 as published, without its tools",
        jinja: "[gMASK]<sop>{% for item in messages %}{% if item['content'] %}<|{{ item['role'] }}|>\
            {{ item['metadata'] }}\n{{ item['content'] }}{% endif %}{% endfor %}\
            {% if add_generation_prompt %}<|assistant|>{% endif %}",
        added: "\n",
    },
    Given {
        name: "LLaMA-Factory's GLM-4",
        jinja: "{{ '[gMASK]<sop>' }}{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}\
            {% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}\
            {% set system_message = 'Sei \"nett\" {zu} allen.' %}{% endif %}\
            {% if system_message is defined %}{{ '<|system|>\n' + system_message }}{% endif %}\
            {% for message in loop_messages %}{% set content = message['content'] %}\
            {% if message['role'] == 'user' %}{{ '<|user|>\n' + content + '<|assistant|>' }}\
            {% elif message['role'] == 'assistant' %}{{ '\n' + content }}{% endif %}{% endfor %}",
        added: "\n",
    },
    Given {
        name: "ChatML",
        jinja: "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + \
            '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        added: "",
    },
    Given {
        name: "ChatML with a default system message, in lines",
        jinja: "{%- for message in messages %}\n    {%- if loop.first and message.role != 'system' %}\n        \
            {{- '<|im_start|>system\\nYou are {{ helpful }}.<|im_end|>\\n' }}\n    {%- endif %}\n    \
            {{- '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' }}\n{%- endfor %}\n\
            {%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n<think>\\n' }}\n{%- endif %}",
        added: "",
    },
    Given {
        name: "Llama 3",
        jinja: "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = \
            '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + \
            '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}\
            {{ content }}{% endfor %}{% if add_generation_prompt %}\
            {{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
        added: "",
    },
    Given {
        name: "Mistral, which takes turns",
        jinja: "{{ bos_token }}{% for message in messages %}\
            {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
            {{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}\
            {% if message['role'] == 'user' %}{{ '[INST] ' + message['content'].strip() + ' [/INST]' }}\
            {% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}\
            {% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}",
        added: "",
    },
    Given {
        name: "LongWriter",
        jinja: "[gMASK]<sop>{% for item in messages %}{% if item['content'] %}<|{{ item['role'] }}|>\n \
            {{ item['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
        added: "\n",
    },
    Given {
        name: "Plain text with numbers from nought",
        jinja: "{% set n = namespace(i=0) %}{% for m in messages %}{% if m.role == 'user' %}[Round {{ n.i }}]\n\
            问：{{ m.content }}\n答：{% set n.i = n.i + 1 %}{% elif m.role == 'assistant' %}{{ m.content }}\n\
            {% else %}{{ raise_exception('no such role') }}{% endif %}{% endfor %}",
        added: "",
    },
    Given {
        name: "Alpaca",
        jinja: "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}\n\n{% endif %}\
            {% for m in messages %}{% if m.role == 'user' %}### Instruction:\n{{ m.content }}\n\n### Response:\n\
            {% elif m.role == 'assistant' %}{{ m.content | trim }}\n\n{% endif %}{% endfor %}",
        added: "",
    },
    Given {
        name: "every content trimmed, and left out when empty",
        jinja: "{{ '<bos>\u{3000}' }}{% for m in messages %}{% set content = m.content | trim %}\
            {% if content %}<{{ m.role }}>{{ content }}{% endif %}\
            {% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}",
        added: "",
    },
];

/// Templates of which no TEMPLATE is made, with a part of the reason.
pub const REFUSED: [(&str, &str, &str); 6] = [
    (
        "thoughts are cut off",
        "{% for m in messages %}<|{{ m.role }}|>\n{% if '</think>' in m.content %}\
            {{ m.content.split('</think>')[-1] }}{% else %}{{ m.content }}{% endif %}{% endfor %}<|assistant|>\n",
        "the messages' roles alone would give",
    ),
    (
        "the last question is framed",
        "{% for m in messages %}{% if loop.last %}<last>{% endif %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}\
            <|assistant|>",
        "depends on",
    ),
    (
        "answers are left out",
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}",
        "leaves out",
    ),
    ("capitals", "{% for m in messages %}<|{{ m.role }}|>{{ m.content | upper }}{% endfor %}", "leaves out"),
    (
        "another day's date",
        "{{ strftime_now('%d %b %Y') }}{% for m in messages %}{{ m.content }}{% endfor %}",
        "cannot be rendered",
    ),
    ("an error", "{% for m in messages %}", "cannot be rendered"),
];
